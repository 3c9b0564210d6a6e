#!/bin/bash
# A pretraining run on all hosts of a TPU pod slice with JAX:
#   TPU=name ZONE=zone training/launch/tpu_pod.sh RECIPE gs-fuse/DATA gs-fuse/WORKDIR [ARGUMENTS…]
#
# mimzoo has to be installed on every host (pip install mimzoo[jax] "jax[tpu]"). JAX finds the
# other hosts by itself. The work directory has to be one that all hosts see.
set -eu

: "${TPU:?name of the TPU}" "${ZONE:?its zone}"
recipe="$1" data="$2" workdir="$3"
shift 3
command=$(printf '%q ' env KERAS_BACKEND=jax mimzoo pretrain "$recipe" \
    --data "$data" --workdir "$workdir" --precision mixed_bfloat16 "$@")
while true; do
    status=0
    gcloud compute tpus tpu-vm ssh "$TPU" --zone "$ZONE" --worker=all --command "$command" ||
        status=$?
    # 143: the hosts got SIGTERM and have saved; once they are back, the run resumes.
    [ "$status" -eq 143 ] || exit "$status"
    sleep 60
done
