"""Step 6, first part: the certificate that visitors see. Life: the domain's; in us-east-1, where
CloudFront looks."""

from lampstand.targets.aws.balancer import ZONE
from lampstand.targets.aws.scope import Scope
from lampstand.targets.aws.template import Output, Ref, Resource, Template, tags

REGION = "us-east-1"
"""The only region whose certificates CloudFront takes (CloudFront developer guide, "Requirements for
certificates")."""


def template(scope: Scope) -> Template | None:
    """The certificate, proved by a record in the zone. None without a domain or with a certificate of the
    user's."""
    domains = scope.domains
    if not domains or scope.aws.certificate:
        return None
    return Template(
        f"Lampstand {scope.site.site}: step 6, certificate",
        {
            "Certificate": Resource(
                "AWS::CertificateManager::Certificate",
                {
                    "DomainName": domains[0],
                    "SubjectAlternativeNames": domains[1:] or None,
                    "ValidationMethod": "DNS",
                    "DomainValidationOptions": tuple(
                        {"DomainName": name, "HostedZoneId": Ref("HostedZone")} for name in domains
                    ),
                    "Tags": tags(scope.tags("certificate")),
                },
            )
        },
        {"HostedZone": ZONE},
        {"Certificate": Output(Ref("Certificate"), "ARN, a parameter of the CDN's stack")},
    )
