#!/bin/sh
# The layout of the code against .clang-format, but for what is better done by hand: blanks inside a line that align it with its
# neighbours, where a line is broken, and macros. What is left: indentation, and blanks between one token and the next. No line is longer
# than 140 columns, ends in a blank or has a tab.
#   format.sh [FILES...]        all of include, src, examples and tests
set -u
cd "$(dirname "$0")/../.." || exit 1
command -v clang-format >/dev/null 2>&1 || { echo "no clang-format"; exit 77; }
[ $# -gt 0 ] || set -- include/*.h src/*.[ch] examples/*.c tests/*.[ch] tests/*/*.c tests/*/*.h
work=$(mktemp -d "${TMPDIR:-/tmp}/forkpool-format.XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
status=0

one_blank() { sed -E 's/([^ ]) +/\1 /g; s/ $//' "$@"; }

for file; do
    [ -f "$file" ] || continue
    clang-format "$file" >"$work/formatted" || { status=1; continue; }
    one_blank "$file" >"$work/ours"
    one_blank "$work/formatted" >"$work/theirs"
    # A hunk of as many lines on both sides is reported; another one only if it differs in more than line breaks.
    diff "$work/ours" "$work/theirs" | awk -v file="$file" '
        function loose(text) {       # a cast or a type before - or * may be taken for an operand
            gsub(/\) - ?/, ")-", text); gsub(/\) \* ?/, ")*", text); gsub(/\) "/, ")\"", text); gsub(/} \* ?/, "} *", text)
            return text
        }
        function flat(text) { text = loose(text); gsub(/[ \n]+/, " ", text); gsub(/ :/, ":", text); gsub(/{ }/, "{}", text); return text }
        function judge() {
            if (at != "" && !macro &&
                (ours_count == theirs_count ? loose(ours) != loose(theirs) : flat(ours) != flat(theirs))) {
                printf "%s:%s: clang-format would have\n%s", file, at, theirs
                bad = 1
            }
            ours = theirs = ""; macro = 0; ours_count = theirs_count = 0
        }
        /^[0-9]/ { judge(); at = $0; sub(/[^0-9].*/, "", at) }
        /^[<>].*\\$|^[<>] #/ { macro = 1 }       # macros are laid out by hand
        /^< / { ours = ours substr($0, 3) "\n"; ours_count++ }
        /^> / { theirs = theirs substr($0, 3) "\n"; theirs_count++ }
        END { judge(); exit bad }' || status=1
    awk -v file="$file" '
        length($0) > 140 { printf "%s:%d: %d columns, at most 140\n", file, FNR, length($0); bad = 1 }
        /[ \t]$/ { printf "%s:%d: ends in a blank\n", file, FNR; bad = 1 }
        /\t/ { printf "%s:%d: a tab\n", file, FNR; bad = 1 }
        END { exit bad }' "$file" || status=1
done
exit $status
