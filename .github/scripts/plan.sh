#!/usr/bin/env bash
# Compares the plans of the checkout with those of BASE and writes the comment for a pull request:
# what the workflow Plan runs, and `make ci-preview`. It needs go and git; no secret, login, engine
# or network beyond Go's modules.
#
#   .github/scripts/plan.sh [BASE]      BASE: a revision; default: where the branch left the default one
#
# Writes out/plan.md and out/plan.json. Exits 0 whether the plans change or not, and 1 when they
# cannot be made: out/plan.md says why then.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
mkdir -p out
rm -f out/plan.md out/plan.json out/plan.err

args=(diff)
[[ -z ${1:-} ]] || args+=("--base=$1")

# compare FORMAT FILE: codexctl's exit code 2, changes, is no failure here.
compare() {
	local status=0
	bin/codexctl "${args[@]}" --format "$1" >"$2" 2>out/plan.err || status=$?
	[[ $status == 2 ]] || return "$status"
}

go build -buildvcs=false -o bin/codexctl ./cmd/codexctl
status=0
compare json out/plan.json && compare markdown out/plan.md || status=$?
if [[ $status != 0 ]]; then
	# A plan that is refused is in the comment already; otherwise the error is all there is to say.
	compare markdown out/plan.md || true
	if [[ ! -s out/plan.md ]]; then
		{
			printf '%s\n### Plan\n\nThe plans cannot be made:\n\n' '<!-- codexctl diff -->'
			# Four spaces make code of it, whatever it holds.
			head -c 20000 out/plan.err | tr -d '\000-\010\013-\037\177' | sed 's/^/    /'
		} >out/plan.md
	fi
	cat out/plan.err >&2
fi
[[ -z ${GITHUB_STEP_SUMMARY:-} ]] || cat out/plan.md >>"$GITHUB_STEP_SUMMARY"
cat out/plan.md
exit "$status"
