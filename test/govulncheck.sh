#!/usr/bin/env bash
# Runs govulncheck and tells the three ways it can end apart, which `make lint` must not mix up:
#
#   test/govulncheck.sh GOVULNCHECK [PACKAGES...]
#
#   no vulnerability that the code reaches   exit 0
#   such a vulnerability, or any other error exit govulncheck's own status (3 for vulnerabilities)
#   the database gives no answer             one line that says SKIPPED, exit 0; exit 1 where
#                                            CODEXCONTINUE_REQUIRE_PEERS names vulndb
#
# GOVULNDB is the URL of the database (default https://vuln.go.dev); file:///path is a copy of it.
set -euo pipefail

[[ $# -ge 1 ]] || { printf '%s\n' "usage: ${0##*/} GOVULNCHECK [PACKAGES...]" >&2; exit 2; }
govulncheck=$1
shift
[[ $# -gt 0 ]] || set -- ./...
db=${GOVULNDB:-https://vuln.go.dev}

errors=$(mktemp)
trap 'rm -f "$errors"' EXIT
status=0
"$govulncheck" -db "$db" "$@" 2>"$errors" || status=$?

# Only a request without any answer is a skip: an answer such as 404 is a wrong GOVULNDB.
if [[ $status == 1 ]] && reason=$(grep -m1 -o 'fetching vulnerabilities: Get ".*' "$errors"); then
	printf '%s\n' "govulncheck: SKIPPED, nothing was checked: no answer from the database $db: ${reason##*: }"
	[[ ,${CODEXCONTINUE_REQUIRE_PEERS:-}, != *,vulndb,* ]] || exit 1
	exit 0
fi
cat "$errors" >&2
exit "$status"
