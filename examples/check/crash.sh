#!/bin/sh
# crash: the three bad items are told apart, the nine good ones are there, and nothing hangs.
got=$("$1" 2>&1) || { echo "FAIL: exit status $?: $got"; exit 1; }
echo "$got"

expect() { echo "$got" | grep -Eq "$1" || { echo "FAIL: no line '$1'"; exit 1; }; }
expect '^item  3: the worker died.* \(signal 11, exit status 0\): .'
expect '^item  6: the worker died.* \(signal 0, exit status 7\): .'
expect '^item  8: the worker died.*: .'
for i in 0 1 2 4 5 7 9 10 11; do
    expect "^item +$i: $((i * i))\$"
done
expect '^9 of 12 items are there, 3 crashed their workers$'
[ "$(echo "$got" | wc -l)" = 13 ] || { echo "FAIL: not 13 lines"; exit 1; }
