#!/bin/sh
# lazy_library works, and its --broken mode shows the hang that it avoids.
for mode in "" --broken; do
    got=$("$1" $mode 2>&1)
    status=$?
    echo "$got"
    [ $status = 77 ] && exit 77
    [ $status = 0 ] || { echo "FAIL: exit status $status of lazy_library $mode"; exit 1; }
    case "$mode$got" in
    "OpenMP works in the host and in its workers: 16 sums agree") ;;
    "--brokena plain forked child hung in its parallel region, as expected") ;;
    *) echo "FAIL: that is not what was expected"; exit 1 ;;
    esac
done
