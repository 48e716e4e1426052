#!/bin/sh
# The coordinator of the example: knows the sites, then keeps its stack until it is told to end.
set -eu
meeting=${MEETING:-/meeting}
fedloom sites identity >"$meeting/coordinator.part" 2>"$meeting/fingerprint.part"
sed 's/^.*fingerprint *//' "$meeting/fingerprint.part" >"$meeting/fingerprint"
mv "$meeting/coordinator.part" "$meeting/coordinator.json"
for name in $SITES; do
  until [ -e "$meeting/$name.json" ]; do sleep 1; done
  if [ ! -e "$FEDLOOM_HOME/coordinator/sites/$name.json" ]; then
    fingerprint=$(python -c "import json, sys
from fedcore.sites.identity import PublicIdentity
print(PublicIdentity.from_json(json.load(open(sys.argv[1]))).fingerprint)" "$meeting/$name.json")
    fedloom sites add "$meeting/$name.json" --most-examples 1000 --fingerprint "$fingerprint"
    (umask 077 && fedloom gateway token "$name" >"$meeting/$name.part")
    mv "$meeting/$name.part" "$meeting/$name.token"
  fi
done
trap 'fedloom stack down; exit 0' TERM INT
fedloom stack up
fedloom deploy
while fedloom stack status >/dev/null; do sleep 10 & wait $!; done
exit 1
