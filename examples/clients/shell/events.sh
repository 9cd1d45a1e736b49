#!/bin/sh
# Events as they come, one JSON object a line, until Ctrl-C.
#
#     ./events.sh                              those of channels
#     ./events.sh '>' | jq -c '[.event_name, .uuid]'
#     ./events.sh custom.sofia.register
. "$(dirname "$0")/nats.sh"

while :; do # for ever: a program that follows events should outlast its broker
    if nats_open $((3 * NATS_PING)); then
        nats_keep
        nats_send "SUB $PREFIX.events.${1:-channel.>} 1"
        # .agent.connected and .disconnected tell when events are missing, whatever else is subscribed to
        nats_send "SUB $PREFIX.events.agent.* 2"
        echo "listening on $PREFIX.events.${1:-channel.>}" >&2
        while nats_next; do
            printf '%s\n' "$PAYLOAD"
        done
    fi
    nats_close
    echo "NATS is unreachable: what happens now is not seen" >&2
    sleep 1
done
