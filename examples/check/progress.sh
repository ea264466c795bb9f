#!/bin/sh
# progress: into a file the hand-made loop writes for each item, the bar one line and no more; stdout has the figures only; on a
# terminal (script makes one) the bar is drawn meanwhile and its last state stays.
program=$1
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
fail() { echo "FAIL: $*"; exit 1; }
unset LC_CTYPE LANG
LC_ALL=C; export LC_ALL

"$program" 1 >"$dir/out" 2>"$dir/err" || fail "exit status $?: $(cat "$dir/err")"
[ "$(cat "$dir/out")" = "1 and 1 of 100 failed" ] || fail "stdout has: $(cat "$dir/out")"
[ "$(head -n 1 "$dir/err" | tr '\r' '\n' | grep -c '^done [0-9]*%$')" = 100 ] || fail "by hand: $(head -n 1 "$dir/err")"
[ "$(sed 1d "$dir/err" | wc -l)" -eq 1 ] || fail "not one line of the bar: $(sed 1d "$dir/err")"
sed 1d "$dir/err" | grep -q '^working: 100%|#*| 100/100 \[00:0.<00:00, .* it/s, 1 failed\]$' || fail "the bar: $(sed 1d "$dir/err")"
echo "a file gets one line"

LC_ALL=C.UTF-8 "$program" 1 2>&1 >/dev/null | grep -q '^working: 100%|██████' || fail "no blocks in a UTF-8 locale"
echo "blocks where the locale has them"

# script's options are Linux's; it is told the time, since a shell that waits for its terminal would wait for ever
command -v script >/dev/null && script -qec true /dev/null </dev/null >/dev/null 2>&1 || { echo "no script that makes a terminal"; exit 0; }
TERM=xterm script -qec "stty cols 70 rows 24; '$program' 20" /dev/null </dev/null >"$dir/screen" || fail "exit status $? on a terminal"
erase=$(printf '\033')'\[K'            # goes before each line
tr '\r' '\n' <"$dir/screen" | sed "s/$erase//" | grep '^working: ' >"$dir/drawn"
count=$(wc -l <"$dir/drawn")
[ "$count" -ge 3 ] || fail "drawn $count times"
tail -n 1 "$dir/drawn" | grep -q '^working: 100%|#*| 100/100 .*, 1 failed\]' || fail "the last state: $(tail -n 1 "$dir/drawn")"
grep -q 'it/s, 1 failed\].*' "$dir/screen" || fail "no failure seen"
echo "a terminal sees it grow"
