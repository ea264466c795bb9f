#!/bin/sh
# retry: the flaky items end well at the second try, the poison one ends after the third, the rest at the first, and the
# files that marked the first tries are gone.
fail() { echo "FAIL: $*"; exit 1; }
marks() { ls -d /tmp/forkpool-retry-* 2>/dev/null; }

before=$(marks)
got=$("$1" 2>&1) || fail "exit status $?: $got"
echo "$got"

expect() { echo "$got" | grep -Eq "$1" || fail "no line '$1'"; }
for i in 0 2 3 4 7 8 10 11; do
    expect "^item +$i: $((i * i)), try 1\$"
done
for i in 1 5 9; do
    expect "^item +$i: $((i * i)), try 2\$"
done
expect '^item  6: the worker died while it ran the task, try 3: .'
expect '^11 of 12 items are there, after 5 retries$'
[ "$(echo "$got" | wc -l)" = 13 ] || fail "not 13 lines"
[ "$(marks)" = "$before" ] || fail "files were left behind"
