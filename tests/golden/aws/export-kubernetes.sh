#!/bin/sh
# Makes the site shop on AWS with nothing but the AWS CLI. Written by Lampstand.
# Usage: ./apply.sh RELEASE    (the release's document lies in releases/RELEASE.json, its images are in the repository)
set -eu
release=${1:?usage: ./apply.sh RELEASE}
region=us-east-1
here=$(dirname "$0")

# Applies one template: KEY REGION PARAMETER=VALUE…
apply() {
    key=$1 where=$2
    shift 2
    echo "== $key"
    aws cloudformation deploy --no-fail-on-empty-changeset --capabilities CAPABILITY_IAM --region "$where" \
        --stack-name "lampstand-shop-$key" --template-file "$here/$key.json" \
        --tags lampstand:site=shop lampstand:tier=site \
        ${bucket:+--s3-bucket "$bucket" --s3-prefix templates} ${1:+--parameter-overrides "$@"}
}

output() {
    aws cloudformation describe-stacks --region "$2" --stack-name "lampstand-shop-$1" --output text \
        --query "Stacks[0].Outputs[?OutputKey=='$3'].OutputValue"
}

bucket=
list=$(aws ec2 describe-managed-prefix-lists --region "$region" --output text \
    --filters Name=prefix-list-name,Values=com.amazonaws.global.cloudfront.origin-facing \
    --query 'PrefixLists[0].PrefixListId')
apply network "$region" CloudFrontPrefixList="$list"
apply storage "$region"
bucket=$(output storage "$region" ReleasesBucket)
apply balancer "$region"
apply database "$region"
apply cache "$region"
apply cdn "$region"
aws s3 cp --region "$region" "$here/releases/$release.json" "s3://$bucket/releases/$release.json"
apply cluster "$region"
output cdn "$region" Url
