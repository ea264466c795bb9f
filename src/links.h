/* Doubly linked lists whose links lie in what is listed: a ring through its head, so that nothing is first or last for the code. All zero
 * is a link that is in no list; a head has to be initialized. Whoever owns a list says which lock guards it. */
#ifndef POOL_LINKS_H
#define POOL_LINKS_H

#include <stddef.h>

struct link { struct link *next, *before; };

/* What a link lies in. */
#define LINK_OWNER(link, type, member) ((type *)(void *)((char *)(link) - offsetof(type, member)))

static inline void link_init(struct link *head)
{
    head->next = head->before = head;
}

static inline int link_is_empty(const struct link *head)
{
    return head->next == head;
}

static inline int link_is_listed(const struct link *link)
{
    return link->next != NULL;
}

static inline void link_append(struct link *head, struct link *link)
{
    link->next = head;
    link->before = head->before;
    head->before->next = link;
    head->before = link;
}

/* One that is in no list stays so. */
static inline void link_remove(struct link *link)
{
    if (!link_is_listed(link))
        return;
    link->before->next = link->next;
    link->next->before = link->before;
    link->next = link->before = NULL;
}

#endif
