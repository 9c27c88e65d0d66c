#!/bin/sh
# Create the namespace TEMPORAL_NAMESPACE with what the service needs. It is safe to repeat.
set -eu

# Not all commands read TEMPORAL_NAMESPACE themselves.
operator() {
    temporal operator "$@" --namespace "$TEMPORAL_NAMESPACE"
}

echo 'Waiting for Temporal.'
until temporal operator cluster health >/dev/null 2>&1; do sleep 1; done

if operator namespace describe >/dev/null 2>&1; then
    operator namespace update --retention "$RETENTION"
else
    operator namespace create --retention "$RETENTION"
fi

echo 'Waiting until the whole cluster knows the namespace.'
until operator search-attribute list >/dev/null 2>&1; do sleep 1; done

operator search-attribute create \
    --name SmartAccountStatus --type Keyword \
    --name SmartAccountDomain --type Keyword \
    --name SmartAccountDeadline --type Datetime
