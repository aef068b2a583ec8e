#!/bin/sh
# Makes the two subsets of Inter beside this script: the characters of Latin, Greek and Cyrillic text, and the signs of
# units and objectives; kerning, and no other layout feature.
# Needs fonttools (PyPI) and Debian's package fonts-inter (Inter 3.19). Usage: build.sh [DIRECTORY OF Inter-*.otf]
set -eu
source="${1:-/usr/share/fonts/opentype/inter}"
cd "$(dirname "$0")"
for weight in Regular SemiBold; do
    python3 -m fontTools.subset "$source/Inter-$weight.otf" --output-file="Inter-$weight.otf" \
        --name-IDs=0,1,2,3,4,5,6,13,14,16,17 --layout-features=kern --notdef-outline --no-recalc-timestamp \
        --unicodes=U+0020-007E,U+00A0-017F,U+0370-03FF,U+0400-045F,U+2010-2027,U+2030,U+2032,U+2033,U+2070-209C,U+20AC,U+2116,U+2122,U+2190-2193,U+2212,U+221A,U+221E,U+2248,U+2260,U+2264,U+2265,U+FFFD
done
