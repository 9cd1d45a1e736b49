# shellcheck shell=sh
# The NATS protocol over netcat, for the scripts beside this file. POSIX sh; needs nc, mktemp and head -c.
# https://docs.nats.io/reference/reference-protocols/nats-protocol

LC_ALL=C # lengths count bytes
set -f   # a * in a subject is no file name
CR=$(printf '\r')
CRLF=$(printf '\r\n.')
CRLF=${CRLF%.}
PREFIX=${PREFIX:-freeswitch}
NATS_PING=${NATS_PING:-10} # seconds between two PINGs of a connection that is to stay

# nats_open SECONDS: connect; the connection ends when nothing has come for so long. False: nobody is there.
nats_open() {
    address=${NATS_URL:-nats://127.0.0.1:4222}
    address=${address#nats://}
    NATS_DIR=$(mktemp -d) || exit 2
    trap nats_close EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    mkfifo "$NATS_DIR/to" "$NATS_DIR/from"
    nc -w "$1" "${address%:*}" "${address##*:}" <"$NATS_DIR/to" >"$NATS_DIR/from" &
    NATS_PID=$!
    exec 3>"$NATS_DIR/to" 4<"$NATS_DIR/from"
    # The server speaks first. no_responders: it shall say when nobody listens, which takes headers.
    IFS= read -r line <&4 || { echo "NATS at $address does not answer" >&2; return 1; }
    nats_send 'CONNECT {"verbose":false,"pedantic":false,"headers":true,"no_responders":true,"lang":"sh","version":"1"}'
}

# nats_keep: ask the server for signs of life from now on. nc does not end when the server closes the connection, but
# it does when nothing has come for the time that nats_open was given: three times $NATS_PING will do.
nats_keep() {
    (
        trap 'kill "$!"; exit' TERM
        while sleep "$NATS_PING" & wait "$!"; do nats_send PING; done
    ) &
    NATS_KEEPER=$!
}

nats_close() {
    kill "$NATS_PID" ${NATS_KEEPER:+"$NATS_KEEPER"} 2>/dev/null
    NATS_KEEPER=
    rm -rf "$NATS_DIR"
}

# nats_send LINE: a line of the protocol. A link that is lost is found out by reading.
nats_send() {
    (trap '' PIPE; printf '%s\r\n' "$1" >&3) 2>/dev/null
}

# nats_publish SUBJECT REPLY PAYLOAD; REPLY may be empty.
nats_publish() {
    nats_send "PUB $1 ${2:+$2 }${#3}$CRLF$3"
}

# nats_next: wait for a message; sets SUBJECT, PAYLOAD, STATUS ("503": nobody listens). False: the link is lost.
nats_next() {
    while IFS= read -r line <&4; do
        line=${line%"$CR"}
        STATUS=
        case $line in
            PING) nats_send PONG ;;
            'MSG '*) # MSG <subject> <sid> [reply] <bytes>
                SUBJECT=${line#MSG }
                SUBJECT=${SUBJECT%% *}
                PAYLOAD=$(head -c "${line##* }" <&4)
                IFS= read -r _ <&4
                return 0 ;;
            'HMSG '*) # the same with headers: HMSG <subject> <sid> [reply] <bytes of headers> <bytes>
                SUBJECT=${line#HMSG }
                SUBJECT=${SUBJECT%% *}
                PAYLOAD=$(head -c "${line##* }" <&4)
                IFS= read -r _ <&4
                STATUS=${PAYLOAD#NATS/1.0}
                STATUS=$(printf '%s' "${STATUS%%"$CR"*}" | tr -dc 0-9)
                PAYLOAD=${PAYLOAD#*"$CRLF$CRLF"}
                return 0 ;;
            -ERR*) echo "NATS: $line" >&2 ;;
        esac
    done
    return 1
}

# json_string TEXT: as a JSON string.
json_string() {
    printf '"%s"' "$(printf '%s' "$1" | tr '\000-\037' ' ' | sed 's/[\\"]/\\&/g')"
}

# json_get KEY JSON: the first value of this key, where it is a string without escapes, a number, true or false. A quote
# inside a JSON string has a backslash before it, so whatever a caller puts into his name can't pass for a key here.
# That will do for what the agent's replies and events begin with; for the rest use jq.
json_get() {
    printf '%s\n' "$2" | grep -Eo "[{,]\"$1\":(\"[^\"\\\\]*\"|[a-z0-9.-]+)" | head -n 1 | cut -d : -f 2- | tr -d '"'
}

# inbox: a subject for replies that nobody else has.
inbox() {
    echo "_INBOX.$(od -An -N 12 -tx1 /dev/urandom | tr -d ' \n')"
}
