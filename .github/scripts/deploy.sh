#!/usr/bin/env bash
# What the workflow Deploy runs, with the stack in STACK:
#
#   STACK=prod .github/scripts/deploy.sh preview|up
#
# Where PULUMI_BACKEND_URL, PULUMI_ACCESS_TOKEN and PULUMI_CONFIG_PASSPHRASE are empty they count as
# not set: a secret that a repository does not have is an empty variable in a workflow.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
: "${STACK:?}"
case ${1:-} in preview | up) ;; *) echo "usage: STACK=prod $0 preview|up" >&2; exit 64 ;; esac
for name in PULUMI_BACKEND_URL PULUMI_ACCESS_TOKEN PULUMI_CONFIG_PASSPHRASE; do
	[[ -n ${!name:-} ]] || unset "$name"
done

go build -buildvcs=false -o bin/codexctl ./cmd/codexctl
if [[ -z ${GITHUB_STEP_SUMMARY:-} || $1 != preview ]]; then
	exec bin/codexctl "$1" "$STACK"
fi
status=0
bin/codexctl preview "$STACK" | tee out.preview || status=$?
{
	printf '### Preview of `%s` against its state\n\n' "$STACK"
	sed 's/^/    /' out.preview
} >>"$GITHUB_STEP_SUMMARY"
rm -f out.preview
exit "$status"
