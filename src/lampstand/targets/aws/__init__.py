"""The site on Amazon Web Services: CloudFormation templates out of typed values, applied by change sets."""
