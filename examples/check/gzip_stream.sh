#!/bin/sh
# What gzip_stream makes, gunzip takes back to the same bytes, whatever the length; its memory is constant; its speed is
# shown beside pigz's and gzip's. FORKPOOL_LONG=1: over 4 GiB instead of over 256 MiB.
program=$1
command -v gunzip >/dev/null || { echo "SKIP: no gunzip"; exit 77; }
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' HUP INT TERM
fail() { echo "FAIL: $*"; exit 1; }

"$program" </dev/null >"$dir/empty.gz" || { [ $? = 77 ] && exit 77; fail "exit status for empty input"; }

# 20 MiB of all sorts: numbers, noise, zeros, a program.
{
    seq 1000000
    head -c 6000000 /dev/urandom
    head -c 6000000 /dev/zero
    while cat "$program"; do :; done 2>/dev/null
} | head -c 20971520 >"$dir/mixed"

for size in 0 1 32767 131071 131072 131073 262144 20971520; do
    head -c $size "$dir/mixed" >"$dir/in"
    "$program" <"$dir/in" >"$dir/out.gz" || fail "exit status $? for $size bytes"
    gunzip -t "$dir/out.gz" || fail "gunzip -t, $size bytes"
    gunzip -c "$dir/out.gz" | cmp - "$dir/in" || fail "other bytes came back, $size bytes"
done
echo "gunzip gives back the same bytes, 0 to 20 MiB"

# A pipe that gives little at a time.
seq 50000 >"$dir/in"
while read -r line; do echo "$line"; done <"$dir/in" | "$program" | gunzip -c | cmp - "$dir/in" || fail "slow pipe"

# Large input.
times=13
[ -n "${FORKPOOL_LONG:-}" ] && times=206
feed() { i=0; while [ $i -lt $times ]; do cat "$dir/mixed"; i=$((i + 1)); done; }
want=$(feed | cksum)
got=$(feed | { "$program" -v 2>"$dir/said" || echo failed >>"$dir/said"; } | gunzip -c | cksum)
said=$(cat "$dir/said")
echo "$((times * 20)) MiB: $said"
[ "$got" = "$want" ] || fail "other bytes came back"
workers=${said%% *}
peak=${said#*peak memory }
peak=${peak% kB}
if [ -n "${FORKPOOL_TOOL:-}" ]; then
    echo "under a sanitizer memory is not looked at"
else
    [ "$peak" -lt $((128 * 1024 + workers * 4096)) ] || fail "that is much memory"
fi

# Speed, for the eye.
cat "$dir/mixed" "$dir/mixed" "$dir/mixed" >"$dir/in"
"$program" -v <"$dir/in" 2>&1 >"$dir/out.gz" | sed 's/^/gzip_stream: /'
echo "             $(($(wc -c <"$dir/out.gz") / 1000)) kB of $(($(wc -c <"$dir/in") / 1000))"
for other in "pigz -p $workers" gzip; do
    command -v ${other%% *} >/dev/null || { echo "${other%% *} is not here"; continue; }
    start=$(date +%s%N)
    $other <"$dir/in" >"$dir/out.gz"
    ms=$((($(date +%s%N) - start) / 1000000 + 1))
    echo "$other: $(($(wc -c <"$dir/in") / 1000 / ms)) MB/s, $(($(wc -c <"$dir/out.gz") / 1000)) kB"
done
