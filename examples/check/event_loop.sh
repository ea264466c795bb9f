#!/bin/sh
# event_loop: answers come while the input is still open; every number that comes through a pipe or from a file is answered,
# and nothing else; it ends with its input; a number that is too large is told and harms no other.
program=$1
dir=$(mktemp -d) || exit 1
pid=
trap '[ -z "$pid" ] || kill "$pid" 2>/dev/null; rm -rf "$dir"' EXIT
trap 'exit 1' HUP INT TERM
fail() { echo "FAIL: $*"; exit 1; }

# A conversation: each line is written when the answer to the one before is there.
mkfifo "$dir/fifo" || exit 1
"$program" <"$dir/fifo" >"$dir/out" & pid=$!
exec 3>"$dir/fifo"
for answer in "12: 2 2 3" "1:" "97: 97" "10000000000000000: 2 2 2 2 2 2 2 2 2 2 2 2 2 2 2 2 5 5 5 5 5 5 5 5 5 5 5 5 5 5 5 5"; do
    echo "${answer%%:*}" >&3
    tries=0
    until grep -qx "$answer" "$dir/out"; do
        tries=$((tries + 1))
        [ $tries -lt 300 ] || fail "no answer '$answer', but: $(cat "$dir/out")"
        sleep 0.1
    done
done
exec 3>&-
wait "$pid" || { code=$?; pid=; fail "exit status $code after the conversation"; }
pid=
[ "$(wc -l <"$dir/out")" -eq 4 ] || fail "not four answers: $(cat "$dir/out")"
echo "answers come while the input is open"

# More at once than it has open at a time; the last line lacks its end. awk says what is right.
awk 'BEGIN { for (n = 0; n <= 3000; n++) {
    line = n ":"
    rest = n
    for (p = 2; rest > 1; p++)
        while (rest % p == 0) { line = line " " p; rest /= p }
    print line
} }' | sort >"$dir/want"
{ awk 'BEGIN { for (n = 0; n < 3000; n++) print n }'; printf 3000; } >"$dir/in"

"$program" <"$dir/in" >"$dir/out" || fail "exit status $? for a file"
sort "$dir/out" | cmp - "$dir/want" || fail "a file: other answers"
{ cat "$dir/in"; } | "$program" >"$dir/out" || fail "exit status $? for a pipe"
sort "$dir/out" | cmp - "$dir/want" || fail "a pipe: other answers"
[ -z "$("$program" </dev/null)" ] || fail "answers to nothing"
echo "3001 answers are right"

printf '6\n99999999999999999999\n7\n' | "$program" >"$dir/out" 2>"$dir/errors" && fail "exit status 0 for a number too large"
[ "$(sort "$dir/out" | tr '\n' ' ')" = "6: 2 3 7: 7 " ] || fail "a number too large: $(cat "$dir/out")"
[ "$(cat "$dir/errors")" = "event_loop: that number is too large" ] || fail "said: $(cat "$dir/errors")"
echo "a number that is too large is told"
