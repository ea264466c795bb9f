#!/bin/sh
# Floors without cycles. CMakeLists.txt lists the sources in floor order, and that is a total order: a file of src/ includes only
# headers of files that stand before it in the list, and its own. A header without a .c of its name is placed by a listed
# .h, or else belongs to the listed file of the longest name that it begins with (nursery_wire.h: nursery.c).
# Every .c is in the list and every listed file exists; headers of src/ are included as "name.h".
#
#   floors.sh [LIBRARY.a]
# With the static library it looks at the calls as well, which headers listed apart from their .c would hide: no object wants a
# function or variable of an object that stands after it, but for those that are one module in several files, with one header.
set -u
modules='handout pull settle judge scheduler'       # one to a line
library=
[ $# = 0 ] || library=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
cd "$(dirname "$0")/../.." || exit 1
list=$(sed -n '/^set(FORKPOOL_SOURCES/,/)/p' CMakeLists.txt | sed 's/#.*//' | grep -oE 'src/[A-Za-z0-9_]+\.[ch]' | sed 's|src/||')
[ -n "$list" ] || { echo "no set(FORKPOOL_SOURCES ...) in CMakeLists.txt"; exit 1; }

status=0
for file in $list; do
    [ -f "src/$file" ] || { echo "src/$file: in the list of CMakeLists.txt, but there is no such file"; status=1; }
done
for file in src/*.c; do
    echo "$list" | grep -qx "${file#src/}" || { echo "$file: not in the list of CMakeLists.txt"; status=1; }
done
[ $status = 0 ] || exit 1

awk -v list="$list" '
function place(file,    base, name, best)           # where a file stands; 0: nowhere
{
    if (file in at) return at[file]
    base = file; sub(/\.h$/, "", base)
    if ((base ".c") in at) return at[base ".c"]
    for (name in at) {
        sub(/\.c$/, "", name)
        if (index(base, name "_") == 1 && length(name) > length(best)) best = name
    }
    return best == "" ? 0 : at[best ".c"]
}
function complain(why) { printf "%s:%d: %s\n", FILENAME, FNR, why; bad = 1 }
BEGIN { n = split(list, order, /[ \n]+/); for (i = 1; i <= n; i++) at[order[i]] = i }
FNR == 1 {
    file = FILENAME; sub(/.*\//, "", file)
    mine = place(file)
    if (!mine) complain("belongs to no file of the list: add it there")
}
/^[ \t]*#[ \t]*include[ \t]*"/ {
    name = $0; sub(/^[^"]*"/, "", name); sub(/".*/, "", name)
    if (name ~ /\//) { complain("\"" name "\": include headers of src/ by their names alone"); next }
    theirs = place(name)
    if (!theirs) complain("\"" name "\": belongs to no file of the list")
    else if (theirs > mine) complain("includes upward: \"" name "\" belongs to " order[theirs] ", which stands after " order[mine])
}
END { exit bad }
' src/*.c src/*.h || status=1

if [ -n "$library" ]; then
    command -v nm >/dev/null 2>&1 || { echo "no nm"; exit 77; }
    nm -gP -A "$library" 2>/dev/null | sed 's/^[^[]*\[\([^]]*\)\]: */\1 /' | awk -v list="$list" -v modules="$modules" '
    BEGIN {
        n = split(list, order, /[ \n]+/); for (i = 1; i <= n; i++) at[order[i]] = i
        n = split(modules, lines, /\n/)
        for (i = 1; i <= n; i++) {
            m = split(lines[i], names, / +/)
            for (j = 1; j <= m; j++) module[names[j] ".c"] = i
        }
    }
    { sub(/(\.c)?\.o$/, ".c", $1) }
    !($1 in at) { print $1 " is in the library and not in the list"; bad = 1 }
    $3 == "U" { wants[$1 " " $2] = 1; next }
    $3 ~ /^[A-Z]$/ { home[$2] = $1 }
    END {
        for (pair in wants) {
            split(pair, p, " ")
            if (p[2] in home && at[home[p[2]]] > at[p[1]] &&
                !(p[1] in module && module[p[1]] == module[home[p[2]]])) {
                print "src/" p[1] ": wants " p[2] " of " home[p[2]] ", which stands after it"
                bad = 1
            }
        }
        exit bad
    }' || status=1
fi
exit $status
