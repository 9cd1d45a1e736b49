#!/bin/sh
# Park incoming calls, do something with each, and send it on: a workflow that waits for nobody.
#
#     ./park_and_route.sh public 1001     calls in context "public" go to extension 1001 of context "default"
#
# Each step is sent with `async`, so nobody waits for its reply. The reply comes on the subject in `forward_to`, with
# the `correlation_id` that was given, and starts the next step:
#
#     CHANNEL_PARK -> execute_app -> reply: step "mark" -> uuid_transfer -> reply: step "transfer" -> log
#
# Ctrl-C switches park mode off again. Calls that are parked then stay parked.
. "$(dirname "$0")/nats.sh"

[ $# -eq 2 ] || { echo "usage: park_and_route.sh CONTEXT EXTENSION" >&2; exit 1; }
context=$1
extension=$2

# step NAME UUID NODE FIELDS: to the call's own node; one without node_id can't be named
step() {
    node=
    [ "$3" = unknown ] || node=",\"node_id\":\"$3\""
    more="\"async\":true,\"forward_to\":\"$outcomes\",\"correlation_id\":\"$1 $2\"$node"
    nats_publish "$PREFIX.api" "" "{$4,$more}"
}

parked() {
    case $PAYLOAD in *',"variable_event_agent_parked":'*) ;; *) return ;; esac # else parked by somebody else
    uuid=$(json_get uuid "$PAYLOAD")
    echo "$uuid: parked" >&2
    step mark "$uuid" "$(json_get node_id "$PAYLOAD")" \
        "\"command\":\"execute_app\",\"uuid\":\"$uuid\",\"app\":\"set\",\"args\":\"routed_by=park_and_route\""
}

outcome() {
    id=$(json_get correlation_id "$PAYLOAD")
    uuid=${id#* }
    if [ "$(json_get success "$PAYLOAD")" != true ]; then # most likely the caller has hung up
        echo "$uuid: ${id%% *} failed: $(json_get message "$PAYLOAD")" >&2
    elif [ "${id%% *}" = mark ]; then
        step transfer "$uuid" "$(json_get node_id "$PAYLOAD")" \
            "\"command\":\"uuid_transfer\",\"args\":$(json_string "$uuid $extension XML default")"
    else
        echo "$uuid: sent to $extension" >&2
    fi
}

nats_open $((3 * NATS_PING)) || exit 1
nats_keep
outcomes=$(inbox)
answers=$(inbox)
nats_send "SUB $PREFIX.events.channel.park 1"
nats_send "SUB $outcomes 2"
nats_send "SUB $answers 3"
nats_publish "$PREFIX.api" "$answers" "{\"command\":\"dialplan.enable\",\"context\":$(json_string "$context")}"
# shellcheck disable=SC2317 # the trap calls it
stop() {
    nats_publish "$PREFIX.api" "" '{"command":"dialplan.disable","async":true}'
    nats_send PING # what was sent has arrived when it is answered
    while IFS= read -r line <&4 && [ "${line#PONG}" = "$line" ]; do :; done
    echo "park mode is off" >&2
    exit 0
}
trap stop INT TERM

while nats_next; do
    case $SUBJECT in
        "$PREFIX".events.*) parked ;;
        "$outcomes") outcome ;;
        "$answers")
            [ "$STATUS" != 503 ] || { echo "no agent" >&2; exit 1; }
            success=$(json_get success "$PAYLOAD")
            [ -n "$success" ] || continue # a JetStream stream that takes requests has answered, too
            json_get message "$PAYLOAD" >&2
            [ "$success" = true ] || exit 1 ;;
    esac
done
echo "NATS is unreachable" >&2
exit 1
