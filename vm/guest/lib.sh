# SPDX-License-Identifier: GPL-2.0-only
# Shell library of the checks (and of run-check itself).
#
# Everything here runs inside a guest that may be emulated in software, where
# a fork costs milliseconds: so bash builtins and /proc files, no pipelines.
#
# Set by run-check for a check: LAB SECTION MNT SRC WORK SEED, and RUN, the
# directory through which a check tells run-check what it did:
#   $RUN/mounts    one line "K MOUNTPOINT PID CONNECTION" per mount made
#   $RUN/K.stats   counters of server K;  $RUN/K.log  what it printed
#   $RUN/K.kernel  "DEV URING SERVER_DEV SERVER_URING": the kernel's counters and
#                  the server's, read together before the unmount
#   $RUN/K.killed  the check did something after which this server need not end well
#   $RUN/notrun    reason why the check does not apply here

CONNECTIONS=/sys/fs/fuse/connections
URING_PARAMETER=/sys/module/fuse/parameters/enable_uring

# _nap SECONDS: sleep without a fork, by waiting for a pipe nobody writes to.
_nap() {
	[[ -n ${_nap_fd-} ]] || exec {_nap_fd}<> <(:)
	read -r -t "$1" -u "$_nap_fd" _ || :
}

# _now VARIABLE: microseconds.
_now() {
	printf -v "$1" '%s' "${EPOCHREALTIME/[.,]/}"
}

_fail() {
	printf 'FAIL: %s\n' "$*"
	exit 1
}

_notrun() {
	printf '%s\n' "$*" >"$RUN/notrun"
	printf 'notrun: %s\n' "$*"
	exit 0
}

# _poll SECONDS COMMAND...: repeat COMMAND until it succeeds; status 1 after SECONDS.
_poll() {
	local _limit=$1 _start _t
	shift
	_now _start
	until "$@"; do
		_now _t
		((_t - _start < _limit * 1000000)) || return 1
		_nap 0.01
	done
}

# _wait_until SECONDS COMMAND...: as _poll, but giving up ends the check loudly.
_wait_until() {
	_poll "$@" || _fail "waited $1 s in vain for: ${*:2}"
}

# _await_answer FD SECONDS PID: read a line from FD into _answer; empty when it did
# not come in time, or PID ended without one.
_await_answer() {
	local _i _part
	_answer=
	for ((_i = 0; _i < $2; _i++)); do
		_part=
		if read -r -t 1 -u "$1" _part; then
			_answer+=$_part
			return
		fi
		# the second may end in the middle of the line
		_answer+=$_part
		if ! [[ -e /proc/$3 ]]; then
			# it may have answered between the two looks
			read -r -t 0.1 -u "$1" _part && _answer+=$_part
			return
		fi
	done
}

# _within SECONDS COMMAND...: run COMMAND and return its status; 124 when it is not
# done in time (it is left behind then: it may be beyond signals).
_within() {
	local _limit=$1 _answer _child _fd
	shift
	exec {_fd}<> <(:)
	{
		"$@" {_fd}>&-
		echo $? >&"$_fd"
	} &
	_child=$!
	_await_answer "$_fd" "$_limit" "$_child"
	exec {_fd}>&-
	[[ -z $_answer ]] || wait "$_child"
	return "${_answer:-124}"
}

# _expect_error TEXT COMMAND...: COMMAND must fail and say TEXT.
_expect_error() {
	local text=$1 said
	shift
	if said=$("$@" 2>&1); then
		_fail "$1 succeeded, expected: $text"
	fi
	[[ $said == *"$text"* ]] || _fail "$1 failed with \"$said\", expected: $text"
	printf '%s: %s\n' "${1##*/}" "$text"
}

# _find_mount DIR: sets _dev (minor of its device) of the topmost mount on DIR.
_find_mount() {
	local _lines _fields _line
	_dev=
	mapfile -t _lines </proc/self/mountinfo
	for _line in "${_lines[@]}"; do
		[[ $_line == *" $1 "* ]] || continue
		read -r -a _fields <<<"$_line"
		[[ ${_fields[4]} == "$1" ]] && _dev=${_fields[2]#*:}
	done
	[[ -n $_dev ]]
}

_is_mounted() {
	local _dev
	_find_mount "${1:-$MNT}"
}

# _stat_of FILE FORMAT: stat without following the mount's parent twice.
_stat_of() {
	stat -c "$2" "$1"
}

# _find_server [DIR]: sets _k _pid _conn of the newest mount made on DIR.
_find_server() {
	local _at=${1:-$MNT} _line _f
	_k=
	[[ -e $RUN/mounts ]] || return 1
	while read -r -a _f; do
		[[ ${_f[1]} == "$_at" ]] && _k=${_f[0]} _pid=${_f[2]} _conn=${_f[3]}
	done <"$RUN/mounts"
	[[ -n $_k ]]
}

_server_pid() {
	local _k _pid _conn
	_find_server || _fail "no server was started for $MNT"
	echo "$_pid"
}

# _conn: number of the connection of $MNT under fusectl.
_conn() {
	local _k _pid _conn
	_find_server || _fail "no mount was made on $MNT"
	echo "$_conn"
}

# _server_log: what the server of $MNT has said.
_server_log() {
	local _k _pid _conn
	_find_server || _fail "no mount was made on $MNT"
	cat "$RUN/$_k.log"
}

# _kernel_counter NAME: a file of the connection of $MNT under fusectl.
_kernel_counter() {
	local _k _pid _conn _v
	_find_server || _fail "no mount was made on $MNT"
	read -r _v <"$CONNECTIONS/$_conn/$1" && echo "$_v"
}

# _has_kernel_counters: status 0 when the kernel counts per transport (only our
# series does).
_has_kernel_counters() {
	local _k _pid _conn
	_find_server && [[ -e $CONNECTIONS/$_conn/requests_uring ]]
}

# _server_counter NAME: a counter of the server of $MNT, alive or not.
_server_counter() {
	local _k _pid _conn
	_find_server || _fail "no mount was made on $MNT"
	mirrorfs --print-stats "$RUN/$_k.stats" "$1"
}

# _idle [DIR]: no request of the mount is waiting for its server.
_idle() {
	local _k _pid _conn _v
	_find_server "$@" || return 0
	read -r _v 2>/dev/null <"$CONNECTIONS/$_conn/waiting" || return 0
	((_v == 0))
}

# _abort [DIR]: abort the connection through fusectl.
_abort() {
	local _k _pid _conn
	_find_server "$@" || _fail "no mount was made on ${1:-$MNT}"
	echo 1 >"$CONNECTIONS/$_conn/abort"
}

# _start_server PROGRAM [ARGUMENT...]: start it for $MNT, its last argument, and note the mount.
_start_server() {
	local _k=0 _line _pid _dev _status
	local -a _options
	if [[ -e $RUN/mounts ]]; then
		while read -r _line; do ((++_k)); done <"$RUN/mounts"
	fi
	_options=(--transport="$SECTION" --stats="$RUN/$_k.stats"
		--pidfile="$RUN/$_k.pid" ${SERVER_OPTIONS-} "${@:2}")
	_within 60 "$1" "${_options[@]}" "$MNT" \
		</dev/null >"$RUN/$_k.log" 2>&1
	_status=$?
	if ((_status == 124)); then
		echo "$1 was not ready after 60 s: ${_options[*]}"
		return 1
	elif ((_status)); then
		printf '%s\n' "$(<"$RUN/$_k.log")"
		echo "$1 ended with status $_status: ${_options[*]}"
		return 1
	fi
	_find_mount "$MNT" || {
		echo "$1 is there, but nothing is mounted on $MNT"
		return 1
	}
	_poll 10 test -s "$RUN/$_k.pid" || {
		echo "$1 wrote no pid file"
		return 1
	}
	read -r _pid <"$RUN/$_k.pid"
	echo "$_k $MNT $_pid $_dev" >>"$RUN/mounts"
}

# _mount [OPTION...]: start the server of this section for $SRC on $MNT.
# Without options: those of the check's "mount:" line.
_mount() {
	local -a _options=("$@")
	(($#)) || read -r -a _options <<<"${MOUNT_OPTIONS-}"
	_start_server mirrorfs "${_options[@]}" "$SRC"
}

# _read_counters K CONNECTION: note the kernel's and the server's counters as of
# one moment. The kernel is asked before and after the server: what the server says
# must lie between. (To ask is to fork, and each fork of a shell with an open file
# ends in a FLUSH: the counters need not stand still.)
_read_counters() {
	local _a _b _c _d _line _sd _su _tries _dir=$CONNECTIONS/$2
	[[ -e $_dir/requests_uring ]] || return 0
	for ((_tries = 0; _tries < 50; _tries++)); do
		read -r _a 2>/dev/null <"$_dir/requests_dev" &&
			read -r _b 2>/dev/null <"$_dir/requests_uring" || return 0
		_sd= _su=
		while read -r _line; do
			case $_line in
			"requests_dev "*) _sd=${_line#* } ;;
			"requests_uring "*) _su=${_line#* } ;;
			esac
		done < <(mirrorfs --print-stats "$RUN/$1.stats")
		read -r _c 2>/dev/null <"$_dir/requests_dev" &&
			read -r _d 2>/dev/null <"$_dir/requests_uring" || return 0
		if ((_b <= _su && _su <= _d)); then
			echo "$_c $_su $_sd $_su" >"$RUN/$1.kernel"
			return 0
		fi
		echo "$_c $_d $_sd $_su" >"$RUN/$1.kernel"
		_nap 0.02
	done
}

# _umount [umount's options]: unmount $MNT, with the counters read just before.
# Status is that of umount; 124 when it did not return within a minute.
_umount() {
	local _k _pid _conn
	if _find_server && [[ ! -e $RUN/$_k.killed ]]; then
		_read_counters "$_k" "$_conn"
	fi
	_within 60 umount "$@" "$MNT"
}

# _has_ended PID: the process has let go of everything (a zombie has, too, once it is alone: its
# other threads may still be about to end, and have its files open).
_has_ended() {
	local _stat
	local -a _threads
	read -r _stat 2>/dev/null <"/proc/$1/stat" || return 0
	[[ ${_stat##*) } == [ZX]* ]] || return 1
	_threads=("/proc/$1/task/"*)
	((${#_threads[@]} <= 1))
}

# _server_gone [DIR]: the server process has ended.
_server_gone() {
	local _k _pid _conn
	_find_server "$@" || return 0
	_has_ended "$_pid"
}

# _conn_gone [DIR]: the connection is no longer listed under fusectl.
_conn_gone() {
	local _k _pid _conn
	_find_server "$@" || return 0
	[[ ! -d $CONNECTIONS/$_conn ]]
}

# _remount [OPTION...]: unmount, wait for the server to end, mount again.
_remount() {
	_umount || _fail "umount failed with status $?"
	_wait_until 30 _server_gone
	_mount "$@" || _fail "mount failed"
}

# _server_may_die: from here on the check does things to the server of $MNT (or
# its connection) after which it need not end well.
_server_may_die() {
	local _k _pid _conn
	_find_server || _fail "no server was started for $MNT"
	: >"$RUN/$_k.killed"
}

# _kill_server [SIGNAL]: kill the server of $MNT and say that it was on purpose.
_kill_server() {
	local _k _pid _conn
	_server_may_die
	_find_server
	kill -"${1:-KILL}" "$_pid"
}

# _probe COMMAND...: ringprobe against the server of $MNT.
_probe() {
	local _k _pid _conn
	_find_server || _fail "no server was started for $MNT"
	SERVER=$_pid ringprobe "$@"
}

# -------------------------------------------------------------- exported images

# _image KIND SIZE: an empty image and, where KIND wants one, a server for it. Sets IMAGE to
# what blockfs wants and BELOW to the file with its bytes.
#   raw    a file in memory, where nothing has to wait
#   direct the same past the page cache, where all has to
#   lower  a file on a mount of mirrorfs (with $LOWER_OPTIONS): see _lower
#   nbd    the same, behind nbdkit (with $NBD_FILTERS, and $NBD_WORDS behind the file's name)
#   qcow2  a qcow2 image, behind qemu-nbd; BELOW is not its bytes
_image() {
	BELOW=$SRC/image IMAGE_OPTIONS=
	rm -f "$BELOW"
	case $1 in
	raw | direct)
		truncate -s "$2" "$BELOW"
		IMAGE=$BELOW
		[[ $1 == raw ]] || IMAGE_OPTIONS=--direct
		;;
	lower)
		_lower_end
		mkdir -p "$LOWER"
		# shellcheck disable=SC2086
		MNT=$LOWER _mount --cache=auto ${LOWER_OPTIONS-} || _fail "mount"
		truncate -s "$2" "$BELOW"
		IMAGE=$LOWER/image
		;;
	nbd)
		truncate -s "$2" "$BELOW"
		_serve_file
		;;
	qcow2)
		qemu-img create -q -f qcow2 "$BELOW" "$2" || _fail "qemu-img create"
		_serve_qcow2
		;;
	*) _fail "no such kind of image: $1" ;;
	esac
}

# _serve_nbd COMMAND...: a server on the socket $WORK/nbd. Sets IMAGE and NBD_PID.
_serve_nbd() {
	rm -f "$WORK/nbd"
	"$@" </dev/null >"$RUN/nbd.log" 2>&1 &
	NBD_PID=$!
	IMAGE="nbd+unix:///?socket=$WORK/nbd"
	_poll 60 test -S "$WORK/nbd" || _fail "$1 does not serve: $(<"$RUN/nbd.log")"
}

_serve_file() {
	# shellcheck disable=SC2086
	_serve_nbd nbdkit --foreground --unix "$WORK/nbd" ${NBD_FILTERS-} file "$BELOW" ${NBD_WORDS-}
}

_serve_qcow2() {
	_serve_nbd qemu-nbd --persistent --shared=8 --format=qcow2 --socket="$WORK/nbd" "$BELOW"
}

# _export [OPTION...]: export $IMAGE as the file $WORK/disk, which becomes MNT.
_export() {
	MNT=$WORK/disk
	[[ -e $MNT ]] || : >"$MNT"
	# shellcheck disable=SC2086
	_start_server blockfs --image="$IMAGE" ${IMAGE_OPTIONS-} "$@"
}

# _requests OPCODE: how many the server of $MNT got, by either way.
_requests() {
	echo $(($(_server_counter "op_$1_dev") + $(_server_counter "op_$1_uring")))
}

# _lower COMMAND...: about the mount below an image of that kind (_lower _requests FSYNC).
LOWER=$WORK/lower
_lower() {
	MNT=$LOWER "$@"
}

# _has_stopped PID: all its threads.
_has_stopped() {
	local _file _stat
	for _file in "/proc/$1/task/"*/stat; do
		read -r _stat <"$_file" && [[ ${_stat##*) } == T* ]] || return 1
	done
}

# _stall: stop who serves what is below (kinds lower and nbd), until _go_on.
_stall() {
	kill -STOP "${NBD_PID:-$(_lower _server_pid)}"
	_wait_until 30 _has_stopped "${NBD_PID:-$(_lower _server_pid)}"
}

_go_on() {
	kill -CONT "${NBD_PID:-$(_lower _server_pid)}"
}

_lower_end() {
	_is_mounted "$LOWER" || return 0
	_lower _umount && _wait_until 30 _server_gone "$LOWER" || _fail "umount"
}

# _unexport: unmount, see the server end, end the NBD server, too.
_unexport() {
	_umount || _fail "umount failed with status $?"
	_wait_until 30 _server_gone
	_nbd_end
}

_nbd_end() {
	[[ -n ${NBD_PID-} ]] || return 0
	kill "$NBD_PID" 2>/dev/null
	wait "$NBD_PID" 2>/dev/null
	NBD_PID=
}

# _each_image SIZE FUNCTION [KIND...]: FUNCTION for each kind of image in turn (raw and nbd).
_each_image() {
	local _kind _size=$1 _function=$2
	shift 2
	(($#)) || set -- raw nbd
	for _kind; do
		echo "$_kind"
		_image "$_kind" "$_size"
		"$_function"
	done
}

# _settled STATE: the server of $MNT is in this state (0 runs, 1 drains, 2 drained, 3 halted).
_settled() {
	(($(_server_counter state) == $1))
}
