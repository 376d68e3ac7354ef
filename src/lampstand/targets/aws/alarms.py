"""CloudWatch alarms that speak to the site's topic."""

from collections.abc import Mapping

from lampstand.targets.aws.scope import Scope
from lampstand.targets.aws.template import Resource, Value, tags


def alarm(
    scope: Scope,
    namespace: str,
    metric: str,
    dimensions: Mapping[str, Value],
    *,
    text: str,
    minutes: int,
    above: float | None = None,
    below: float | None = None,
    statistic: str = "Average",
) -> Resource:
    """An alarm that rings when the metric was above (or below) a limit for `minutes` minutes in a row."""
    limit = above if above is not None else below
    if limit is None:
        raise ValueError("an alarm needs `above` or `below`")
    operator = "GreaterThanThreshold" if above is not None else "LessThanThreshold"
    topic = scope.imported("network", "Alarms")
    return Resource(
        "AWS::CloudWatch::Alarm",
        {
            "AlarmDescription": f"{scope.site.site}: {text}",
            "Namespace": namespace,
            "MetricName": metric,
            "Dimensions": tuple({"Name": k, "Value": v} for k, v in dimensions.items()),
            "Statistic": statistic,
            "Period": 60,
            "EvaluationPeriods": minutes,
            "Threshold": limit,
            "ComparisonOperator": operator,
            # No traffic means no data for most metrics, and is no reason to wake anybody.
            "TreatMissingData": "notBreaching",
            "AlarmActions": (topic,),
            "OKActions": (topic,),
            "Tags": tags(scope.tags("alarms")),
        },
    )
