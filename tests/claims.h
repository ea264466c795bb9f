/* The worker's steps on a claim word that tests keep taken apart. */
#ifndef CLAIMS_H
#define CLAIMS_H

#include "claim.h"

static inline enum claim_step claims_next(claim_word *word, const struct claim_offer *offer, struct claim *mine)
{
    uint64_t left = claim_encode(*mine);
    enum claim_step step = claim_next(word, offer, &left);
    *mine = claim_decode(left);
    return step;
}

#endif
