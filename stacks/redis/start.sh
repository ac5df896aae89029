#!/bin/sh
# Starts a Redis that asks for a password, and takes the previous one for a while: clients that were
# given that one stay until they have finished what they are doing.
#
#   start.sh AUTH STATE SECONDS CONFIG
#
# AUTH is a file with the line `user default ... #SHA256 ...`, STATE a file of this script's own that
# outlives the container: "CURRENT PREVIOUS UNTIL", two hashes and a Unix time. SECONDS is how long
# the previous password is taken.
# Passwords appear here as hashes only, and never in a list of processes.
set -eu
auth=$1 state=$2 seconds=$3 config=$4

now=$(date +%s)
hash=$(sed -n 's/.* #\([0-9a-f]\{64\}\) .*/\1/p' "$auth")
current='' previous='' until=0
if [ -f "$state" ]; then
	read -r current previous until <"$state" || true
fi

if [ "$current" != "$hash" ]; then
	previous=${current:-none} until=$((now + seconds)) current=$hash
	# A Redis that cannot note the change, on a full disk, starts all the same. The note is removed
	# then: by the old one the next start would find a change again, and take the previous password
	# for as long again.
	{ (umask 077 && echo "$current $previous $until" >"$state.new") && mv "$state.new" "$state"; } ||
		rm -f "$state" || true
fi

left=$((until - now))
if [ "$left" -gt "$seconds" ]; then
	left=$seconds # the clock went back
fi
if [ "${previous:-none}" = none ] || [ "$left" -le 0 ]; then
	exec redis-server "$config" - <"$auth"
fi

# A user of its own takes the old password away. That user's password is in this process alone.
key=$(head -c 32 /dev/urandom | sha256sum | cut -d' ' -f1)
(
	rotation() { REDISCLI_AUTH=$key redis-cli -e --no-auth-warning --user rotation; }
	sleep "$left"
	tries=0 # it may still be loading its data
	until printf 'acl setuser default !%s\n' "$previous" | rotation || [ "$tries" -ge 600 ]; do
		tries=$((tries + 1))
		sleep 1
	done
	echo 'acl deluser rotation' | rotation
) >/dev/null 2>&1 &
exec redis-server "$config" - <<CONF
$(sed "s/ #/ #$previous #/" "$auth")
user rotation reset on #$(printf %s "$key" | sha256sum | cut -d' ' -f1) -@all +acl|setuser +acl|deluser
CONF
