#!/usr/bin/env bash
# Books a slot, whatever happens to the connection, and waits until it is settled. Needs curl 7.76+ and nothing else.
#
#     HOLDFAST_API=http://127.0.0.1:3000 HOLDFAST_KEY=hf_test_consumer_... \
#         bash book.sh order-1001 demo-clinic main-street 2028-03-01T09:00:00Z 2028-03-01T09:30:00Z
set -euo pipefail
order=$1 provider=$2 location=$3 start=$4 end=$5
answer=$(mktemp) && headers=$(mktemp)
trap 'rm -f "$answer" "$headers"' EXIT

# Repeats a request until it is answered: after lost connections, 408, 429 and 5xx, for 10 minutes at most, with pauses
# that double, or as Retry-After says. Prints the status. What is sent stays the same, byte for byte.
# 502 and 504 come again as they are: with the same key they are replayed, so that repeating them does no harm.
call() {
    curl --silent --show-error --max-time 35 --retry 10 --retry-max-time 600 --retry-all-errors \
        --output "$answer" --dump-header "$headers" --write-out '%{http_code}' \
        --header "Authorization: Bearer $HOLDFAST_KEY" "$@" || true
}
member() { sed -n "s/.*\"$1\":\"\{0,1\}\([^\",}]*\).*/\1/p" "$answer" | head -n 1; }

# The key is something that is stored with the order, and so the same after a crash. It is not made up here.
# `Prefer` lets a repetition wait for the first request, if that is still being worked on.
status=$(call "$HOLDFAST_API/v1/bookings" --header 'Content-Type: application/json' \
    --header "Idempotency-Key: \"$order\"" --header 'Prefer: wait=10' --data "{
        \"provider_id\": \"$provider\",
        \"slot\": {\"location_id\": \"$location\", \"start\": \"$start\", \"end\": \"$end\"},
        \"customer\": {\"name\": \"Ada Lovelace\", \"email\": \"ada@example.com\"},
        \"reference\": \"$order\",
        \"async_confirmation\": true
    }")
case $status in
    201 | 202) ;;
    000) echo "Given up. Run this again with the same order: it books nothing twice." >&2; exit 1 ;;
    *) cat "$answer" >&2; exit 1 ;;
esac
path=$(tr -d '\r' <"$headers" | sed -n 's/^[Ll]ocation: //p' | tail -n 1)
state=$(member status)
echo "${path##*/} is $state"
# While it is pending: a read that answers as soon as the booking changes, or after 25 s.
while [ "$state" = pending ]; do
    status=$(call "$HOLDFAST_API$path?wait=25")
    [ "$status" = 200 ] || { cat "$answer" >&2; exit 1; }
    state=$(member status)
done
echo "${path##*/} is $state"
