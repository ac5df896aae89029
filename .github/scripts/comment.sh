#!/usr/bin/env bash
# Keeps one comment with the plan on the pull request that a run of the workflow Plan was for.
#
#   .github/scripts/comment.sh PLAN.md
#
# PLAN.md comes from a run of the pull request's own code, so nothing in it is trusted: it is posted
# as text, of a bounded length, under a line that says where it is from. The pull request is looked
# up by what GitHub itself says about the run (REPOSITORY, HEAD_OWNER, HEAD_BRANCH, HEAD_SHA), never
# by what the run says. Needs gh with GH_TOKEN, and jq.
set -euo pipefail

plan=$1 marker='<!-- codexctl diff -->' limit=64000
: "${REPOSITORY:?}" "${HEAD_OWNER:?}" "${HEAD_BRANCH:?}" "${HEAD_SHA:?}"

[[ -f $plan && ! -L $plan ]] || { echo "there is no plan: the run ended before it wrote one" >&2; exit 0; }
size=$(wc -c <"$plan")
((size <= limit)) || { echo "the plan has $size bytes, more than the $limit that fit a comment" >&2; exit 1; }
IFS= read -r first <"$plan" || true
[[ $first == "$marker" ]] || { echo "this is no plan: it does not begin with $marker" >&2; exit 1; }

number=$(gh api --method GET "repos/$REPOSITORY/pulls" -f state=open -f "head=$HEAD_OWNER:$HEAD_BRANCH" |
	jq -r --arg sha "$HEAD_SHA" '[.[] | select(.head.sha == $sha) | .number] | first // empty')
[[ -n $number ]] || { echo "no open pull request is at $HEAD_SHA any more" >&2; exit 0; }

body=$(mktemp)
trap 'rm -f "$body"' EXIT
{
	cat "$plan"
	printf '\n<sub>Made by the code of %s itself, without secrets. It is no approval.</sub>\n' "$HEAD_SHA"
} >"$body"

# The comment that this workflow made before: of the same author, with the marker.
comment=$(gh api --paginate "repos/$REPOSITORY/issues/$number/comments?per_page=100" |
	jq -rs --arg marker "$marker" '[add // [] | .[]
		| select(.user.login == "github-actions[bot]" and (.body | startswith($marker)))
		| .id] | first // empty')
if [[ -n $comment ]]; then
	gh api --method PATCH "repos/$REPOSITORY/issues/comments/$comment" -F "body=@$body" --silent
	echo "updated the comment on #$number"
else
	gh api --method POST "repos/$REPOSITORY/issues/$number/comments" -F "body=@$body" --silent
	echo "commented on #$number"
fi
