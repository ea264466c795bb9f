/* The same work by Open MPI. W1 and W4 the way of MPI: an even share for each rank, rank 0 works too (scatter, gather). W3 and W7: rank 0
 * deals single items to the others, eight outstanding at each, since MPI has no such call of its own. `run` starts it with two ranks that
 * poll, and with three that yield, and takes the better of each figure. */
#define _GNU_SOURCE
#include "bench.h"

#include <mpi.h>

enum { OUTSTANDING = 8, STOP = 1 };

static int rank, ranks;

static double squares(void *unused)
{
    static uint32_t in[SQUARES], out[SQUARES], mine[SQUARES];
    (void)unused;
    int share = SQUARES / ranks;
    MPI_Barrier(MPI_COMM_WORLD);
    double begin = seconds();
    MPI_Scatter(in, share, MPI_UINT32_T, mine, share, MPI_UINT32_T, 0, MPI_COMM_WORLD);
    for (int i = 0; i < share; i++)
        mine[i] *= mine[i];
    MPI_Gather(mine, share, MPI_UINT32_T, out, share, MPI_UINT32_T, 0, MPI_COMM_WORLD);
    return (seconds() - begin) * 1e9 / SQUARES;
}

static double trips(void *unused)
{
    char bytes[8] = "1234567";
    (void)unused;
    MPI_Barrier(MPI_COMM_WORLD);
    double begin = seconds();
    for (int i = 0; i < TRIPS; i++) {
        if (rank == 0)
            MPI_Send(bytes, 8, MPI_BYTE, 1, 0, MPI_COMM_WORLD);
        if (rank < 2)
            MPI_Recv(bytes, 8, MPI_BYTE, 1 - rank, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        if (rank == 1)
            MPI_Send(bytes, 8, MPI_BYTE, 0, 0, MPI_COMM_WORLD);
    }
    return (seconds() - begin) * 1e6 / TRIPS;
}

static void deal(void)
{
    uint64_t item = 0;
    MPI_Status status;
    int sent = 0, received = 0;
    for (int i = 0; i < OUTSTANDING; i++)
        for (int to = 1; to < ranks; to++, sent++)
            MPI_Send(&item, 8, MPI_BYTE, to, 0, MPI_COMM_WORLD);
    for (; received < STREAM; received++) {
        MPI_Recv(&item, 8, MPI_BYTE, MPI_ANY_SOURCE, 0, MPI_COMM_WORLD, &status);
        if (sent < STREAM) {
            MPI_Send(&item, 8, MPI_BYTE, status.MPI_SOURCE, 0, MPI_COMM_WORLD);
            sent++;
        }
    }
    for (int to = 1; to < ranks; to++)
        MPI_Send(&item, 8, MPI_BYTE, to, STOP, MPI_COMM_WORLD);
}

static double stream(void *unused)
{
    (void)unused;
    MPI_Barrier(MPI_COMM_WORLD);
    double begin = seconds();
    if (rank == 0)
        deal();
    for (uint64_t item; rank > 0;) {
        MPI_Status status;
        MPI_Recv(&item, 8, MPI_BYTE, 0, MPI_ANY_TAG, MPI_COMM_WORLD, &status);
        if (status.MPI_TAG == STOP)
            break;
        MPI_Send(&item, 8, MPI_BYTE, 0, 0, MPI_COMM_WORLD);
    }
    return STREAM / (seconds() - begin) / 1e6;
}

struct large { char *in, *out, *mine, *result; };

static double large(void *arg)
{
    struct large *l = arg;
    int share = LARGE / ranks * LARGE_SIZE;
    MPI_Barrier(MPI_COMM_WORLD);
    double begin = seconds();
    MPI_Scatter(l->in, share, MPI_BYTE, l->mine, share, MPI_BYTE, 0, MPI_COMM_WORLD);
    memcpy(l->result, l->mine, (size_t)share);
    MPI_Gather(l->result, share, MPI_BYTE, l->out, share, MPI_BYTE, 0, MPI_COMM_WORLD);
    return (double)share * ranks / (1 << 30) / (seconds() - begin);
}

static double large_items(int runs)
{
    size_t all = (size_t)LARGE * LARGE_SIZE, share = all / (size_t)ranks;
    struct large l = {rank ? NULL : touched(all), rank ? NULL : touched(all), touched(share), touched(share)};
    double value = measured(large, &l, runs);
    free(l.in);
    free(l.out);
    free(l.mine);
    free(l.result);
    return value;
}

static void say(const char *figure, double value, const char *unit)
{
    if (rank == 0)
        report("openmpi", figure, value, unit);
}

int main(int argc, char **argv)
{
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    for (int i = 1; i < argc; i++) {
        char figure[32];
        snprintf(figure, sizeof figure, "stream-%dw", ranks - 1);
        if (!strcmp(argv[i], "W1"))
            say("map-ints", measured(squares, NULL, 5), "ns");
        if (!strcmp(argv[i], "W2"))
            say("round-trip", measured(trips, NULL, 5), "us");
        if (!strcmp(argv[i], "W3"))
            say("stream", measured(stream, NULL, 3), "M/s");
        if (!strcmp(argv[i], "W4"))
            say("large-map", large_items(3), "GiB/s");
        if (!strcmp(argv[i], "W7"))
            say(figure, measured(stream, NULL, ranks > 3 ? 1 : 3), "M/s");
    }
    MPI_Finalize();
}
