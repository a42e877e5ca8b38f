#!/bin/sh
# Makes the passwords of an installation of `complete`, once: the volumes keep the first ones.
# Of an installation of an earlier release, it keeps those, and makes what is new.
set -eu
umask 077
cd "$(dirname "$0")"
if [ -e secrets/minio.env ]; then
    echo "$PWD/secrets exists: its passwords are those of the volumes. Move it away only with them." >&2
    exit 1
fi
# A letter first: NATS would take some words that begin with a digit for numbers.
password() { printf p; head -c 24 /dev/urandom | base64 | tr '+/' 'ab'; }
# What an earlier release wrote, or a new one.
before() { if [ -e "secrets/$1" ]; then sed -n "s/^$2=//p" "secrets/$1"; else password; fi; }
database=$(before postgres.env POSTGRES_PASSWORD) store=$(before store.env LATHE_S3_SECRET_KEY)
bus=$(before nats.env NATS_PASSWORD)
rm -rf secrets.new && mkdir secrets.new
echo "POSTGRES_PASSWORD=$database" > secrets.new/postgres.env
echo "LATHE_DATABASE_URL=postgresql://lathe:$database@postgres:5432/lathe" > secrets.new/database-owner.env
echo "NATS_PASSWORD=$bus" > secrets.new/nats.env
printf 'MINIO_ROOT_USER=lathe\nMINIO_ROOT_PASSWORD=%s\n' "$store" > secrets.new/minio.env
variable() { echo "$1" | tr 'a-z-' 'A-Z_'; }
# Each of these gives a role, whose file is the first argument, a user at one of the stores.
at_postgres() {
    made=$(password)
    echo "POSTGRES_PASSWORD_$(variable "$1")=$made" >> secrets.new/database-owner.env
    echo "LATHE_DATABASE_URL=postgresql://lathe_$1:$made@postgres:5432/lathe" >> "secrets.new/$1.env"
}
at_nats() {
    made=$(password)
    echo "NATS_PASSWORD_$(variable "$1")=$made" >> secrets.new/nats.env
    echo "LATHE_NATS_URL=nats://$1:$made@nats:4222" >> "secrets.new/$1.env"
}
at_minio() {
    printf 'LATHE_S3_ACCESS_KEY=%s\nLATHE_S3_SECRET_KEY=%s\n' "$2" "$3" >> "secrets.new/$1.env"
}
registry=$(password) tasks=$(password) worker=$(password)
printf 'S3_PASSWORD_%s=%s\n' REGISTRY "$registry" TASKS "$tasks" WORKER "$worker" >> secrets.new/minio.env
at_postgres template
at_postgres registry && at_nats registry && at_minio registry registry "$registry"
for service in converter quantizer optimizer evaluator; do
    at_postgres $service && at_nats $service && at_minio $service tasks "$tasks"
done
for device in \
    cpu-x86-64 cpu-arm64 nvidia-p4 nvidia-v100 nvidia-t4 nvidia-a10 nvidia-a100 nvidia-l4 nvidia-l20 \
    nvidia-l40s nvidia-h100 nvidia-h200 nvidia-b200 ascend-310 ascend-310p ascend-310b ascend-910b; do
    at_nats "worker-$device" && at_minio "worker-$device" worker "$worker"
done
at_nats watcher  # for those who read all changes: watcher.env is for them
signing() {
    openssl genpkey -algorithm ed25519 -out secrets.new/signing.pem
    openssl pkey -in secrets.new/signing.pem -pubout -out secrets.new/signing.pub  # for those who verify packages
}
if [ -e secrets ]; then
    cp -p secrets/service.env secrets/tokens.json secrets.new
    if [ -e secrets/signing.pem ]; then cp -p secrets/signing.* secrets.new; else signing; fi
    mv secrets secrets.old
    mv secrets.new secrets
    echo "The roles have passwords of their own. Once all pods use them, remove secrets.old." >&2
    exit
fi
signing
admin=$(password)
echo "LATHE_SERVICE_TOKEN=$(password)" > secrets.new/service.env
hash=$(printf %s "$admin" | sha256sum | cut -d ' ' -f 1)
printf '{"tokens": [{"id": "first", "sha256": "%s", "user": "admin"}]}\n' "$hash" > secrets.new/tokens.json
mv secrets.new secrets
echo "The first user is 'admin', with LATHE_TOKEN=$admin. 'lathe tokens add --file secrets/tokens.json' makes more." >&2
