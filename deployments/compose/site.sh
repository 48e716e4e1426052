#!/bin/sh
# A site of the example: its folder is made once, then its worker is kept running.
set -eu
meeting=${MEETING:-/meeting} mailbox=${MAILBOX:-/mailbox}
if [ ! -e "$FEDLOOM_SITE/identity.json" ]; then
  # Its own hospital's published file, which is downloaded by nobody else.
  fedloom site init "$NAME" --folder "$FEDLOOM_SITE" --mailbox "$mailbox" --data heart_disease \
    -o "data.hospitals=[$NAME]" --data-folder "${ROWS:-/state/rows}" --api http://127.0.0.1:4201/api
  python -c "from deployments.cli.federation import policy_text; print(policy_text(), end='')" \
    >"$FEDLOOM_SITE/policy.yaml"
fi
cp "$FEDLOOM_SITE/public.json" "$meeting/$NAME.json"
until [ -e "$meeting/coordinator.json" ] && [ -e "$meeting/$NAME.token" ]; do sleep 1; done
if [ ! -e "$FEDLOOM_SITE/coordinator.json" ]; then
  fedloom site trust "$meeting/coordinator.json" --fingerprint "$(cat "$meeting/fingerprint")"
  fedloom site resume
fi
(umask 077 && cp "$meeting/$NAME.token" "$FEDLOOM_SITE/token")
exec fedloom site serve
