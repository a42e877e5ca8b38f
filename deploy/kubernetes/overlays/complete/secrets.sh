#!/bin/sh
# Makes the passwords of an installation of `complete`, once: the volumes keep the first ones.
set -eu
umask 077
cd "$(dirname "$0")"
if [ -e secrets ]; then
    echo "$PWD/secrets exists: its passwords are those of the volumes. Move it away only with them." >&2
    exit 1
fi
# A letter first: NATS would take some words that begin with a digit for numbers.
password() { printf p; head -c 24 /dev/urandom | base64 | tr '+/' 'ab'; }
database=$(password) bus=$(password) admin=$(password)
mkdir secrets.new
echo "LATHE_DATABASE_URL=postgresql://lathe:$database@postgres:5432/lathe" > secrets.new/database.env
echo "POSTGRES_PASSWORD=$database" > secrets.new/postgres.env
echo "LATHE_NATS_URL=nats://lathe:$bus@nats:4222" > secrets.new/bus.env
echo "NATS_PASSWORD=$bus" > secrets.new/nats.env
printf 'LATHE_S3_ACCESS_KEY=lathe\nLATHE_S3_SECRET_KEY=%s\n' "$(password)" > secrets.new/store.env
echo "LATHE_SERVICE_TOKEN=$(password)" > secrets.new/service.env
hash=$(printf %s "$admin" | sha256sum | cut -d ' ' -f 1)
printf '{"tokens": [{"id": "first", "sha256": "%s", "user": "admin"}]}\n' "$hash" > secrets.new/tokens.json
openssl genpkey -algorithm ed25519 -out secrets.new/signing.pem
openssl pkey -in secrets.new/signing.pem -pubout -out secrets.new/signing.pub  # for those who verify packages
mv secrets.new secrets
echo "The first user is 'admin', with LATHE_TOKEN=$admin. 'lathe tokens add --file secrets/tokens.json' makes more." >&2
