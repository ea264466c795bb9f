#!/bin/sh
# hello_queue greets everybody, in order, and ends by itself.
got=$("$1" 2>&1) || { echo "FAIL: exit status $?: $got"; exit 1; }
echo "$got"
[ "$got" = "hello Ada, the root of 3 is 1.732
hello Grace, the root of 5 is 2.236
hello Barbara, the root of 7 is 2.646" ] || { echo "FAIL: that is not what was expected"; exit 1; }
