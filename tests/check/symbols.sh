#!/bin/sh
# What the built library shows and what it wants.
#   symbols.sh DIR          a directory with libforkpool.so and libforkpool.a
# 1. The shared library exports exactly the functions that the header declares POOL_API.
# 2. It needs libc (and, before glibc 2.34, libpthread) and nothing else.
# 3. Its own calls of public functions are bound inside: no relocation by such a name is left.
# 4. An object of the static library that calls a public function of another object needs that object for something internal as
#    well, if only by way of others. Then a host with a function of that name is told by the linker; else the host's would be called
#    instead, without a word.
set -u
top=$(cd "$(dirname "$0")/../.." && pwd)
dir=${1:?the directory of the libraries}
for tool in nm readelf; do
    command -v $tool >/dev/null 2>&1 || { echo "no $tool"; exit 77; }
done
[ -f "$dir/libforkpool.so" ] || { echo "no $dir/libforkpool.so"; exit 1; }
work=$(mktemp -d "${TMPDIR:-/tmp}/forkpool-symbols.XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
status=0
wrong() { echo "$1"; sed 's/^/    /' "$2"; status=1; }

LC_ALL=C; export LC_ALL
sed -n 's/^POOL_API [^(]*[ *]\(pool_[a-z_0-9]*\)(.*/\1/p' "$top/include/forkpool.h" | sort -u >"$work/public"
[ "$(wc -l <"$work/public")" -gt 10 ] || { echo "the header's POOL_API functions were not found"; exit 1; }

nm -D --defined-only "$dir/libforkpool.so" | sed 's/.* //; s/@.*//' | sort -u >"$work/exported"
comm -13 "$work/public" "$work/exported" >"$work/extra"
comm -23 "$work/public" "$work/exported" >"$work/missing"
[ -s "$work/extra" ] && wrong "exported, but not in the header:" "$work/extra"
[ -s "$work/missing" ] && wrong "in the header, but not exported:" "$work/missing"

readelf -dW "$dir/libforkpool.so" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' |
    grep -vE '^(libc\.so.*|libc\.musl-.*|libpthread\.so\.0|ld-linux.*|ld64\.so.*)$' >"$work/needed"
[ -s "$work/needed" ] && wrong "libforkpool.so needs more than libc:" "$work/needed"

readelf -rW "$dir/libforkpool.so" | grep -E ' pool_[a-z_0-9]+( |@|$)' >"$work/interposed"
[ -s "$work/interposed" ] && wrong "calls that a host's own function would catch:" "$work/interposed"

if [ -f "$dir/libforkpool.a" ]; then
    nm -gP -A "$dir/libforkpool.a" 2>/dev/null | sed 's/^[^[]*\[\([^]]*\)\]: */\1 /' | awk -v public="$work/public" '
        BEGIN { while ((getline name < public) > 0) is_public[name] = 1 }
        $3 == "U" { wants[$1, $2] = 1; next }
        $3 ~ /^[A-Z]$/ { home[$2] = $1 }
        function load(object,    pair, p)       # what is linked for certain once `object` is
        {
            if (object in loaded) return
            loaded[object] = 1
            for (pair in wants) {
                split(pair, p, SUBSEP)
                if (p[1] == object && !(p[2] in is_public) && home[p[2]] != "") load(home[p[2]])
            }
        }
        END {
            for (call in wants) {
                split(call, c, SUBSEP)
                if (!(c[2] in is_public) || home[c[2]] == "") continue
                delete loaded
                load(c[1])
                if (!(home[c[2]] in loaded)) print c[1] " calls " c[2] ", but needs nothing else of " home[c[2]]
            }
        }' >"$work/silent"
    [ -s "$work/silent" ] && wrong "static library: a host's own function would be called silently:" "$work/silent"
fi
exit $status
