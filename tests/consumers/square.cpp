// The same in C++17: the header as it is, a vector's memory as items, the handles in unique_ptr.
#include <forkpool.h>

#include <cstdio>
#include <memory>
#include <vector>

extern "C" {
static int square(pool_task *task)
{
    int x = *static_cast<const int *>(task->in);
    int y = x * x;
    return pool_return(task, &y, sizeof y);
}
}

int main()
{
    std::vector<int> xs{0, 1, 2, 3, 4}, ys(5);
    pool_options options{};
    options.workers = 2;
    std::unique_ptr<pool, decltype(&pool_destroy)> workers(pool_create(&options), pool_destroy);

    if (!workers || pool_map(workers.get(), square, pool_array(xs.data(), xs.size(), sizeof xs[0]), ys.data(), sizeof ys[0], nullptr)) {
        std::fprintf(stderr, "%s\n", pool_error());
        return 1;
    }
    for (int y : ys)
        std::printf("%d ", y);

    std::unique_ptr<pool_iter, decltype(&pool_iter_free)> it(
        pool_imap(workers.get(), square, pool_array(xs.data(), xs.size(), sizeof xs[0]), nullptr), pool_iter_free);
    while (const pool_result *r = pool_next(it.get()))
        std::printf("%d ", *static_cast<const int *>(r->data));
    std::printf("\n");
}
