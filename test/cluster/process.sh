# The cluster's processes. $pids/NAME holds "PID STARTTIME": the start time tells a process from a
# later one that got its number.

# start_time PID: empty when it is gone or waits to be reaped.
start_time() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | awk '$1 != "Z" { print $20 }'; }

alive() {
	local pid since
	[[ -s $pids/$1 ]] || return 1
	read -r pid since <"$pids/$1"
	[[ -n $since && $(start_time "$pid") == "$since" ]]
}

# start NAME COMMAND...: in a session of its own, so that it outlives this script's terminal.
start() {
	local name=$1 pid
	shift
	setsid "$@" </dev/null >>"$log/$name.log" 2>&1 9>&- & # 9 is the lock of the script, which must not outlive it
	pid=$!
	disown
	sleep 0.05 # after setsid has become the program, which is when the start time is the final one
	printf '%s %s\n' "$pid" "$(start_time "$pid")" >"$pids/$name"
}

stop() { # NAME: gives it ten seconds
	local name=$1 tries=100 pid
	if alive "$name"; then
		read -r pid _ <"$pids/$name"
		kill "$pid" 2>/dev/null || true
		while alive "$name" && ((tries-- > 0)); do sleep 0.1; done
		if alive "$name"; then
			kill -9 "$pid" 2>/dev/null || true
			sleep 0.2
		fi
	fi
	rm -f "$pids/$name"
}

# wait_for SECONDS NAME WHAT COMMAND...: until the command succeeds; the process of that name has to live meanwhile.
wait_for() {
	local tries=$(($1 * 5)) name=$2 what=$3
	shift 3
	until "$@" >/dev/null 2>&1; do
		if ! alive "$name"; then
			tail -n 15 "$log/$name.log" >&2
			fail "$name ended; its log is $log/$name.log"
		fi
		if ((tries-- <= 0)); then
			tail -n 15 "$log/$name.log" >&2
			fail "timed out waiting for $what; the log of $name is $log/$name.log"
		fi
		sleep 0.2
	done
}
