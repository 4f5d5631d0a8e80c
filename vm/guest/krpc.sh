# SPDX-License-Identifier: GPL-2.0-only
# Shell library of the checks of krpcfs, on top of lib.sh: storage nodes on the guest's own
# address, and krpcfs in front of them. Nodes are in the check's process group and end with it.

. "$LAB/guest/lib.sh"

HERE=127.0.0.1
declare -A node_pid

# _listens PORT: somebody does.
_listens() {
	local _lines _line _hex
	printf -v _hex '%04X' "$1"
	mapfile -t _lines </proc/net/tcp
	for _line in "${_lines[@]}"; do
		[[ $_line == *": 0100007F:$_hex 00000000:0000 0A "* ]] && return
	done
	return 1
}

# _is_alone PORT: nobody is connected to it any more, as far as the node knows.
_is_alone() {
	local _lines _line _hex
	printf -v _hex '%04X' "$1"
	mapfile -t _lines </proc/net/tcp
	for _line in "${_lines[@]}"; do
		# established, or closed by the other side only
		[[ $_line != *": 0100007F:$_hex "*" 0[18] "* ]] || return 1
	done
}

# _node PORT PROGRAM...: run it in the background, wait until it listens.
_node() {
	local _port=$1
	shift
	"$@" >"node.$_port.log" 2>&1 &
	node_pid[$_port]=$!
	# how it ends is not bash's to say
	disown
	_poll 60 _listens "$_port" && kill -0 "${node_pid[$_port]}" ||
		_fail "$1 does not listen on $_port: $(<"node.$_port.log")"
}

# _nbdkit PORT FILE|ARGUMENTS: nbdkit with a file, or as it is told.
_nbdkit() {
	local _port=$1
	shift
	(($# > 1)) || set -- file "$PWD/$1"
	_node "$_port" nbdkit -f -i "$HERE" -p "$_port" "$@"
}

_qemu_nbd() {
	_node "$1" qemu-nbd -f raw -b "$HERE" -p "$1" -t -e 64 "$2"
}

# _krpcnode PORT FOLDER [OPTION...]
_krpcnode() {
	_node "$1" krpcnode "${@:3}" "$1" "$2"
}

# _signal_node PORT SIGNAL
_signal_node() {
	kill -"$2" "${node_pid[$1]}" 2>/dev/null || _fail "no node at $1: $(<"node.$1.log")"
}

# _kill_node PORT: and wait until it is gone, so that another can listen there.
_kill_node() {
	_signal_node "$1" KILL
	_wait_until 10 _has_ended "${node_pid[$1]}"
}

# _serve NODES [OPTION...]: ports instead of addresses: 10001,10002/10003. Unless it is said
# otherwise, with limits that a slow guest does not reach.
_serve() {
	local _nodes=$HERE:${1//,/,$HERE:}
	_start_server krpcfs --timeout=20000 --patience=60000 "${@:2}" \
		"${_nodes//\//\/$HERE:}" || _fail "krpcfs does not start"
}

# _payload FILE BYTES: no two blocks of it are the same.
_payload() {
	memsearch make "$1" "$2" krpcfs-payload || _fail "cannot make $1"
}

# _stripe FILE BYTES COLUMN...: lay a file out for columns, in stripes of BYTES.
_stripe() {
	local _file=$1 _stripe=$2 _i _size _n
	shift 2
	_size=$(stat -c %s "$_file")
	_n=$(((_size + _stripe - 1) / _stripe))
	for ((_i = 0; _i < $#; _i++)); do
		: >"${@:_i + 1:1}"
	done
	for ((_i = 0; _i < _n; _i++)); do
		dd if="$_file" bs="$_stripe" skip="$_i" count=1 2>/dev/null >>"${@:_i % $# + 1:1}"
	done
}

# _cold: nothing of a file is in the page cache.
_cold() {
	echo 3 >/proc/sys/vm/drop_caches
}

# _same FILE FILE...: compares all of them with the first one, says so.
_same() {
	local _f
	for _f in "${@:2}"; do
		cmp "$1" "$_f" || _fail "$_f differs from $1"
	done
	echo "same bytes"
}

# _counted NAME: a counter of the server, as of the last time a file was closed.
_counted() {
	_server_counter "$1"
}

# _expect_count NAME VALUE [SECONDS]: the counter comes to have it.
_count_is() {
	_count=$(_counted "$1")
	((_count == $2))
}
_expect_count() {
	_poll "${3:-10}" _count_is "$1" "$2" || _fail "$1 is $_count, not $2"
	echo "$1 $2"
}

# _expect_some NAME: it is more than 0.
_count_is_some() {
	_count=$(_counted "$1")
	((_count > 0))
}
_expect_some() {
	_poll 10 _count_is_some "$1" || _fail "$1 is 0"
	echo "$1: some"
}
