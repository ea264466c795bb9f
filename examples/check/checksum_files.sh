#!/bin/sh
# checksum_files prints what the system's cksum prints, byte for byte: over /usr/include, and over a tree with all that may
# stand in the way.
program=$(realpath "$1")
command -v cksum >/dev/null || { echo "SKIP: no cksum"; exit 77; }
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' HUP INT TERM
cd "$dir" || exit 1
export LC_ALL=C

fail() { echo "FAIL: $*"; exit 1; }
same() { cmp "$2" "$3" && return; diff "$2" "$3" | head; fail "$1"; }
files_below() { find "$1" -type f -print0 | sort -z; }

# Everything that a compiler reads.
files_below /usr/include | xargs -0 cksum >want
"$program" /usr/include >got 2>errors || { code=$?; head errors; fail "exit status $code for /usr/include"; }
same "/usr/include" want got
[ -s errors ] && fail "errors: $(cat errors)"
echo "$(wc -l <got) files of /usr/include: the same"

# A tree: names that sort apart from their directories, a file for each path through the CRC, no link and no fifo.
mkdir -p tree/a/deep tree/empty.d
for size in 0 1 7 8 9 131071 131072 131073; do
    head -c $size /dev/urandom >tree/a/deep/$size
done
echo 1 >tree/a-b; echo 2 >tree/a.c; echo 3 >"tree/a/with a space"; echo 4 >tree/b
ln -s /etc/passwd tree/link; ln -s a tree/a_link; mkfifo tree/fifo
compare() {     # what cksum says of the tree's files, of a missing one and of a named link
    { files_below tree; printf 'missing\0tree/link\0'; } | $as xargs -0 cksum >want 2>want.errors
    $as "$1" tree missing tree/link >got 2>got.errors
    [ $? = 1 ] || fail "exit status is not 1 where a file cannot be read"
    same "the tree" want got
    cksum --version 2>/dev/null | grep -q GNU || { echo "SKIP, in part: no GNU cksum to compare errors with"; return; }
    sed 's/^cksum: /checksum_files: /' want.errors >want.renamed
    same "errors" want.renamed got.errors
}
as=
compare "$program"
echo "a tree, and a missing file: the same"

# And a file that may not be read. Root may read everything, so it plays nobody.
echo 5 >tree/a/secret
chmod 0 tree/a/secret
if [ "$(id -u)" = 0 ]; then
    chmod 755 .
    cp "$program" program && program=$dir/program
    as="setpriv --reuid=65534 --regid=65534 --clear-groups"
    if ! $as "$program" tree/b >/dev/null 2>&1; then
        echo "SKIP, in part: root cannot run it as nobody here, no unreadable file was tried"
        exit 0
    fi
fi
compare "$program"
grep -q '^checksum_files: tree/a/secret: Permission denied$' got.errors || fail "nothing said of tree/a/secret"
echo "an unreadable file: the same"
