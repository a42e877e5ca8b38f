#!/bin/sh
# Gives each role of Lathe its user at MinIO, with the policy beside this file; again and again, as the release asks.
# MinIO's image, where it runs, has its client and a shell, and few other programs.
set -eu
here=${0%/*}
export MC_CONFIG_DIR=/tmp/mc
mc --quiet alias set store "$MINIO_URL" "$MINIO_ROOT_USER" "$MINIO_ROOT_PASSWORD" > /dev/null
give() {
    mc --quiet admin policy create store "lathe-$1" "$here/minio-$1.json"
    mc --quiet admin user add store "$1" "$2"
    # To attach a policy for a second time is an error there.
    case $(mc --quiet admin policy entities store --user "$1") in
        *"lathe-$1"*) ;;
        *) mc --quiet admin policy attach store "lathe-$1" --user "$1" ;;
    esac
}
give registry "$S3_PASSWORD_REGISTRY"
give tasks "$S3_PASSWORD_TASKS"
give worker "$S3_PASSWORD_WORKER"
