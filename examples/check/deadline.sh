#!/bin/sh
# deadline: the numbers from which a way leads to 1 are all answered, the three others timed out, not before their second.
want=' 1: 0 steps
 2: 1 steps
 3: 5 steps
 4: 2 steps
 5: no end in sight, the time limit was exceeded
 6: 6 steps
 8: 3 steps
12: 7 steps
13: no end in sight, the time limit was exceeded
15: 14 steps
16: 4 steps
17: no end in sight, the time limit was exceeded
19: 11 steps
24: 8 steps
11 done, 3 timed out'

start=$(date +%s%N)
got=$("$1" 2>&1) || { echo "FAIL: exit status $?: $got"; exit 1; }
ms=$((($(date +%s%N) - start) / 1000000))
echo "$got"
echo "$ms ms"
[ "$got" = "$want" ] || { echo "FAIL: that is not what was expected"; exit 1; }
[ "$ms" -ge 1000 ] || { echo "FAIL: some did not have their second"; exit 1; }
