#!/bin/sh
# Starts a Redis whose users have passwords, and takes the previous ones for a while: clients that
# were given those stay until they have finished what they are doing.
#
#   start.sh USERS STATE SECONDS CONFIG
#
# USERS is a file with a line `user NAME reset on #SHA256 ...` for each user, and one of the default
# user, `user default reset ...`, who is off. STATE is a file of this script's own that outlives the
# container: "none UNTIL CURRENT / PREVIOUS", a Unix time and two lists of NAME#SHA256. SECONDS is
# how long the previous passwords are taken.
# Passwords appear here as hashes only, and never in a list of processes.
set -eu
users=$1 state=$2 seconds=$3 config=$4

now=$(date +%s)
hashes=$(sed -n 's/^user \([^ ]*\) reset on \(#[0-9a-f]\{64\}\) .*/\1\2/p' "$users" | tr '\n' ' ')
default='' until=0 lists=''
if [ -f "$state" ]; then
	read -r default until lists <"$state" || true
fi

current=${lists%%/*} previous=${lists#*/}
if [ "${#default}" = 64 ]; then # of the version in which everyone signed in as the default user
	current="default#$default"
fi

if [ "$current" != "$hashes" ]; then
	previous=$current until=$((now + seconds)) current=$hashes
	# A Redis that cannot note the change, on a full disk, starts all the same. The note is removed
	# then: by the old one the next start would find a change again, and take the previous passwords
	# for as long again.
	{ (umask 077 && echo "none $until $current/ $previous" >"$state.new") &&
		mv "$state.new" "$state"; } || rm -f "$state" || true
fi

left=$((until - now))
if [ "$left" -gt "$seconds" ]; then
	left=$seconds # the clock went back
fi
if [ -z "$previous" ] || [ "$left" -le 0 ]; then
	exec redis-server "$config" - <"$users"
fi

both=''
for hash in $previous; do
	both="${both}s/^user ${hash%#*} reset/& on #${hash#*#}/;"
done

# A user of its own takes the old passwords away. That user's password is in this process alone.
sha256() { sha256sum | cut -d' ' -f1; }
key=$(head -c 32 /dev/urandom | sha256)
(
	rotation() { REDISCLI_AUTH=$key redis-cli -e --no-auth-warning --user rotation; }
	sleep "$left"
	tries=0 # it may still be loading its data
	until {
		echo 'acl setuser default reset'
		sed -n 's/^user \([^ ]*\) reset on \(#[0-9a-f]*\) .*/acl setuser \1 resetpass \2/p' "$users"
	} | rotation || [ "$tries" -ge 600 ]; do
		tries=$((tries + 1))
		sleep 1
	done
	echo 'acl deluser rotation' | rotation
) >/dev/null 2>&1 &
exec redis-server "$config" - <<CONF
$(sed "$both" "$users")
user rotation reset on #$(printf %s "$key" | sha256) +acl|setuser +acl|deluser
CONF
