#!/bin/sh
# existing_loop's two loops agree. (The times are for the eye.)
got=$("$1" 500 2>&1) || { echo "FAIL: exit status $?: $got"; exit 1; }
echo "$got"
echo "$got" | grep -q '^20000 results agree bit for bit$' || { echo "FAIL: no agreement"; exit 1; }
