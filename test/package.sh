#!/usr/bin/env bash
# Packs the package, installs it elsewhere, and runs its bin: on an old Node it says what it needs,
# on a new one it works, from dist/ alone.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$root"
tarball=$(npm pack --silent --pack-destination "$folder" | tail -n 1)
cd "$folder"
npm init --yes >/dev/null
npm install --silent --no-audit --no-fund --omit=dev "./$tarball"
node24=$root/node_modules/.bin/node
"$node24" node_modules/brainops/dist/src/cli/brainops.js --help >help.txt
grep -q 'insert a row' help.txt
old=$(PATH=${PATH//$root\/node_modules\/.bin:/} command -v node)
if [ "$("$old" -p 'process.versions.node.split(".")[0]')" -lt 22 ]; then
  if "$old" node_modules/brainops/dist/src/cli/brainops.js --help 2>message; then
    echo 'an old Node was accepted' >&2
    exit 1
  fi
  grep -q 'needs Node 22.18 or newer' message
fi
timeout 200 "$node24" node_modules/brainops/dist/src/cli/brainops.js demo >demo.txt 2>&1 || { tail -n 40 demo.txt; exit 1; }
echo 'the packed package installs and runs its demo'
