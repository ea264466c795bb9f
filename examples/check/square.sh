#!/bin/sh
# square prints the squares three times, and nothing else.
want='[0, 1, 4, 9, 16]
[0, 1, 4, 9, 16]
[0, 1, 4, 9, 16]'

got=$("$1" 2>&1) || { echo "FAIL: exit status $?: $got"; exit 1; }
[ "$got" = "$want" ] || { echo "FAIL: it printed"; echo "$got"; exit 1; }
