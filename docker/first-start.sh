#!/bin/sh
# What a first start lacks: passwords that nobody has chosen, and something to serve.
#
#   first-start [FILE...]
#
# Each FILE that is missing gets a random password. A model volume without a bundle gets the small model
# digits-plain, trained in seconds on handwritten digits that come with scikit-learn. What is there already
# stays as it is.
set -eu

for file in "$@"; do
    if [ ! -s "$file" ]; then
        # Only this volume's own containers can read it; they run as users that share no group.
        python -c 'import secrets; print(secrets.token_urlsafe(32))' >"$file.new"
        chmod 0444 "$file.new"
        mv "$file.new" "$file"
        echo "$file: a new password"
    fi
done

models=${INTAGLIO_MODEL_DIR:-/models}
for card in "$models"/*/*/card.json; do
    if [ -e "$card" ]; then
        echo "$models: there are models"
        exit 0
    fi
done
echo "$models: no models yet, training digits-plain"
exec intaglio train digits-plain --set plan.epochs=10 --device cpu --out "$models"
