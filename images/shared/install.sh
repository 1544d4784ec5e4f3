#!/bin/sh
# Makes /opt/kaizen of what /tmp/requirements.txt names, without what nobody uses in an image.
set -eu
packages=/opt/kaizen/lib/python3.13/site-packages
python3 -m venv /opt/kaizen
# No dependencies: the file names all that are wanted.
/opt/kaizen/bin/pip install --no-cache-dir --disable-pip-version-check --no-compile --no-deps --require-hashes \
  -r /tmp/requirements.txt
rm -rf "$packages"/pip "$packages"/pip-* /opt/kaizen/bin/pip*
# Of the AWS services only S3 and the ways to an identity are used.
find "$packages/botocore/data" -mindepth 1 -maxdepth 1 -type d \
  ! -name s3 ! -name sts ! -name sso ! -name sso-oidc -exec rm -rf {} +
# Nobody runs the packages' own tests here, nor compiles against them.
find "$packages" -type d -name tests -prune -exec rm -rf {} +
find "$packages" -type f \( -name '*.a' -o -name '*.[ch]' -o -name '*.pyi' -o -name '*.pyx' -o -name '*.pxd' \) -delete
# LightGBM asks for the system's OpenMP, which slim images lack; scikit-learn brings the same library along.
find "$packages/scikit_learn.libs" -name 'libgomp*' -exec ln -s {} /opt/kaizen/lib/libgomp.so.1 \; 2>/dev/null || true
# What runs is compiled here, because the root file system is read-only there; the Kubernetes client's thousand models are
# not used.
/opt/kaizen/bin/python -m compileall -q -x 'kubernetes/(aio/)?client/(models|api)/' "$packages"
