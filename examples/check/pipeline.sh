#!/bin/sh
# pipeline says of each file what sum says, over /usr/include, over an empty tree and over one with files that come and go; killed at one,
# it ends as well, with all the others.
program=$1
command -v sum >/dev/null || { echo "SKIP: no sum"; exit 77; }
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
export LC_ALL=C
fail() { echo "FAIL: $*"; exit 1; }

want() { find "$1" -type f | sort | while read -r file; do printf '%05d %s\n' "$(sum <"$file" | sed 's/ .*//; s/^0*\(.\)/\1/')" "$file"; done; }

mkdir -p "$dir/tree/empty" "$dir/tree/deep/er"
for i in $(seq 100); do
    head -c $((i * 37)) /dev/urandom >"$dir/tree/deep/er/$i"
done
: >"$dir/tree/nothing"
echo 1 >"$dir/tree/with a space"
ln -s nowhere "$dir/tree/link"
want "$dir/tree" >"$dir/want"
"$program" "$dir/tree" >"$dir/got" 2>"$dir/errors" || fail "exit status $?: $(cat "$dir/errors")"
sort -k 2 "$dir/got" | cmp - "$dir/want" || fail "not what sum says"
[ -s "$dir/errors" ] && fail "errors: $(cat "$dir/errors")"
echo "$(wc -l <"$dir/got") files: as sum says"

poison=$dir/tree/deep/er/50
"$program" "$dir/tree" "$poison" >"$dir/got" 2>"$dir/errors" && fail "nothing missing"
[ "$(sort "$dir/errors")" = "pipeline: a process was killed by signal 9
pipeline: missing: $poison" ] || fail "errors: $(cat "$dir/errors")"
grep -v " $poison\$" "$dir/want" >"$dir/others"
sort -k 2 "$dir/got" | cmp - "$dir/others" || fail "others are missing as well"
echo "one process killed: its one item is missing"

mkdir "$dir/none"
[ -z "$("$program" "$dir/none" 2>&1)" ] || fail "something of nothing"
echo "no files: it ends as well"
