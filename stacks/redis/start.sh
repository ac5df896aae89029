#!/bin/sh
# Starts a Redis whose users have passwords, and takes the previous ones for a while: clients that
# were given those stay until they have finished what they are doing. Drops old days of the audit,
# and has the append-only file written anew each day.
#
#   start.sh USERS STATE SECONDS CONFIG [RETENTION]
#
# What a restore has put beside the data takes their place first: /data/restored is a folder of
# append-only files, which is renamed to that name when it is whole. A restore restarts Redis at once:
# what is an hour old is of one that ended before that, and must not come back days later. What was
# still being received is dropped: who sent it has ended with the container.
#
# The former data stay in /data/former until Redis has loaded the others, and that becomes
# /data/loaded, where the restore sees it. A start that finds them there puts them back: Redis has
# ended while it loaded, as one does that has not the memory, and would each time. Unless it has
# written since, which it does once it has loaded. /data/refused says that they are back.
#
# USERS is a file with a line `user NAME reset on #SHA256 ...` for each user, and one of the default
# user, `user default reset ...`, who is off. STATE is a file of this script's own that outlives the
# container: "none UNTIL CURRENT / PREVIOUS", a Unix time and two lists of NAME#SHA256. SECONDS is
# how long the previous passwords are taken, and RETENTION how many the audit's records are kept; 0
# is for ever.
# Passwords appear here as hashes only, and never in a list of processes. REDIS_CLI_OPTIONS are words
# for redis-cli, where Redis speaks TLS.
set -eu
users=$1 state=$2 seconds=$3 config=$4 retention=${5:-0}

# A crash in between is no harm: the next start goes on from here. What is renamed is whole.
data=$(dirname "$state")
rm -rf "$data/restoring" "$data/loaded/"*
rm -f "$data"/temp-*.rdb # snapshots that a former version began, of what was erased since
if [ -d "$data/former" ] && [ ! -d "$data/taken" ]; then
	if [ -n "$(find "$data/appendonlydir" -newer "$data/former")" ]; then
		mv "$data/former" "$data/loaded"
		rm -rf "$data/loaded/"*
	else
		echo "start.sh: Redis has not loaded what was restored, and begins with its former data" >&2
		mv "$data/former" "$data/back"
	fi
fi
if [ -d "$data/back" ]; then
	for part in appendonlydir dump.rdb; do
		[ -e "$data/back/$part" ] || continue
		rm -rf "${data:?}/$part"
		mv "$data/back/$part" "$data/$part"
	done
	rm -rf "$data/refused"
	mv "$data/back" "$data/refused"
fi

if [ -n "$(find "$data/restored" -maxdepth 0 -mmin -60 2>/dev/null)" ]; then
	mv "$data/restored" "$data/taken"
elif [ -d "$data/restored" ]; then
	echo "start.sh: a restore that did not end is dropped" >&2
	rm -rf "$data/restored"
fi
if [ -d "$data/taken" ]; then
	mkdir -p "$data/former"
	if [ ! -d "$data/former/appendonlydir" ]; then
		mkdir -p "$data/appendonlydir" # so that it can be put back, of a Redis that had none
		mv "$data/appendonlydir" "$data/former/appendonlydir"
	fi
	if [ -e "$data/dump.rdb" ]; then
		mv "$data/dump.rdb" "$data/former/dump.rdb"
	fi
	mv "$data/taken" "$data/appendonlydir"
fi

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

# What is to be done later is done by users of its own. Their password is in this process alone.
sha256() { sha256sum | cut -d' ' -f1; }
key=$(head -c 32 /dev/urandom | sha256)
password="#$(printf %s "$key" | sha256)"
as() { REDISCLI_AUTH=$key redis-cli ${REDIS_CLI_OPTIONS-} -e --no-auth-warning --user "$@"; }

# One asks until Redis has loaded its data, which refuses this while it loads. Then what a restore has
# put aside goes, and the snapshot of a former version, which would keep what is deleted from now on.
restore_user=''
if [ -d "$data/former" ] || [ -e "$data/dump.rdb" ]; then
	restore_user="user restore reset on $password %R~loaded +exists"
	(
		until as restore exists loaded; do
			sleep 1
		done
		rm -f "$data/dump.rdb"
		if [ -d "$data/former" ]; then
			mv "$data/former" "$data/loaded"
			rm -rf "$data/loaded/"*
		fi
	) >/dev/null 2>&1 &
fi

# One takes the old passwords away.
both='' rotation_user=''
if [ -n "$previous" ] && [ "$left" -gt 0 ]; then
	for hash in $previous; do
		both="${both}s/^user ${hash%#*} reset/& on #${hash#*#}/;"
	done

	rotation_user="user rotation reset on $password +acl|setuser +acl|deluser"
	(
		sleep "$left"
		tries=0 # it may still be loading its data
		until {
			echo 'acl setuser default reset'
			sed -n 's/^user \([^ ]*\) reset on \(#[0-9a-f]*\) .*/acl setuser \1 resetpass \2/p' "$users"
		} | as rotation || [ "$tries" -ge 600 ]; do
			tries=$((tries + 1))
			sleep 1
		done
		echo 'acl deluser rotation' | as rotation
	) >/dev/null 2>&1 &
fi

# One drops the days of the audit that are over for longer than the retention, from the oldest on.
# The last one stays, as the next record follows its last. Of what is dropped, and of conversations
# that have expired, it leaves nothing in the append-only file.
retention_user=''
if [ "$retention" -gt 0 ]; then
	retention_user="user retention reset on $password ~{audit}:* +eval +lrange +unlink +lpop"
	retention_user="$retention_user +bgrewriteaof"
	drop="
		for _, day in ipairs(redis.call('LRANGE', KEYS[1], 0, -2)) do
			if day >= ARGV[1] then break end
			redis.call('UNLINK', '{audit}:' .. day)
			redis.call('LPOP', KEYS[1])
		end"
	(
		hours=0
		while :; do
			since=$(date -u -d "@$(($(date +%s) - retention))" +%Y-%m-%d)
			if as retention eval "$drop" 1 '{audit}:days' "$since"; then
				hours=$((hours + 1)) # a small file is not written anew by itself
				[ $((hours % 24)) -ne 2 ] || as retention bgrewriteaof || :
				sleep 3600
			else
				sleep 10 # it may still be loading its data
			fi
		done
	) >/dev/null 2>&1 &
fi

exec redis-server "$config" - <<CONF
$(sed "$both" "$users")
$restore_user
$rotation_user
$retention_user
CONF
