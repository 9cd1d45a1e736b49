#!/bin/sh
# One command and its reply, as it came.
#
#     ./request.sh status
#     ./request.sh show channels count | jq -r .data
#
# Exit code: 0 done, 1 the reply is an error, 2 there is no reply.
. "$(dirname "$0")/nats.sh"

[ $# -ge 1 ] || { echo "usage: request.sh COMMAND [ARGS]" >&2; exit 2; }
command=$1
shift

nats_open 35 || exit 2 # seconds; the agent itself gives up after 30 and says so
reply=$(inbox)
nats_send "SUB $reply 1"
# .any: one node, whichever. All nodes: .api. One certain node: .node.<id>
nats_publish "$PREFIX.any" "$reply" "{\"command\":$(json_string "$command"),\"args\":$(json_string "$*")}"

success=
while [ -z "$success" ]; do # a JetStream stream that takes requests answers as well, without `success`
    nats_next || { echo "no reply" >&2; exit 2; }
    [ "$STATUS" != 503 ] || { echo "no agent, or none whose FreeSWITCH is connected" >&2; exit 2; }
    success=$(json_get success "$PAYLOAD")
done
printf '%s\n' "$PAYLOAD"
[ "$success" = true ]
