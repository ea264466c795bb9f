#!/bin/sh
# The visible top level is exactly this. Where git is at hand, ignored files (build directories) do not count.
set -u
cd "$(dirname "$0")/../.." || exit 1
want=$(printf '%s\n' CMakeLists.txt LICENSE README.md examples include src tests | LC_ALL=C sort)
have=$( { git ls-files -co --exclude-standard 2>/dev/null || ls; } | cut -d/ -f1 | grep -v '^\.' | LC_ALL=C sort -u)
[ -n "$have" ] || have=$(LC_ALL=C ls)
[ "$have" = "$want" ] && exit 0
echo "The visible top level should be:" $want
echo "but it is:" $have
exit 1
