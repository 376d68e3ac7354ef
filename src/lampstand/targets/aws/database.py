"""Step 4: the database with replication. Life: longer than any machine; a snapshot outlives the stack.

`database.replicas` counts servers that hold every acknowledged write as on the other targets: the first is
the synchronous standby of a Multi-AZ instance, which RDS promotes by itself; the others are read replicas.
"""

from collections.abc import Mapping

from lampstand.targets.aws.alarms import alarm
from lampstand.targets.aws.scope import DATABASE_PORT, Scope
from lampstand.targets.aws.storage import secret_reference
from lampstand.targets.aws.template import Att, Ref, Resource, Sub, Template, Value, merge, tags
from lampstand.tiers.database.accounts import APP

ENGINES: Mapping[str, tuple[str, str]] = {"mariadb": ("10.11", "mariadb10.11"), "mysql": ("8.4", "mysql8.4")}
"""Engine -> version (the same MariaDB as the other targets run) and parameter group family."""
SMALLEST_GB = 20
"""RDS has no gp3 volume smaller than this."""
LOGS = ("error", "slowquery")


def storage_gb(scope: Scope) -> int:
    """Size of the volume in GiB: what the site file says, or the smallest there is."""
    return max(SMALLEST_GB, -(-scope.site.database.storage // 2**30))


def template(scope: Scope) -> Template:
    """Multi-AZ instance, read replicas, their parameters and alarms."""
    resources = merge(
        _settings(scope), _logs(scope), {"Primary": _primary(scope)}, _replicas(scope), _alarms(scope)
    )
    # With one read replica and more, reads go to the first; RDS has no reader name for plain instances.
    reader = "Replica1" if scope.read_replicas else "Primary"
    return Template(
        f"Lampstand {scope.site.site}: step 4, database",
        resources,
        outputs={
            "PrimaryHost": scope.export(
                "database", "PrimaryHost", Att("Primary", "Endpoint.Address"), "Writes"
            ),
            "ReplicaHost": scope.export("database", "ReplicaHost", Att(reader, "Endpoint.Address"), "Reads"),
            "PrimaryId": scope.export("database", "PrimaryId", Ref("Primary"), "The instance"),
        },
    )


def _settings(scope: Scope) -> Mapping[str, Resource]:
    _, family = ENGINES[scope.aws.database_engine]
    parameters: dict[str, Value] = {
        # An acknowledged write is on disk here and, with Multi-AZ, on the standby's (DESIGN: section 6,
        # rule 1).
        "innodb_flush_log_at_trx_commit": "1",
        "sync_binlog": "1",
        "character_set_server": "utf8mb4",
        "max_connections": str(scope.site.database.max_connections),
        "slow_query_log": "1",
        "long_query_time": "1",
    }
    parameters |= {k.replace("-", "_"): v for k, v in scope.site.database.settings.items()}
    return {
        "Subnets": Resource(
            "AWS::RDS::DBSubnetGroup",
            {
                "DBSubnetGroupDescription": f"Isolated subnets of {scope.site.site}",
                "SubnetIds": scope.imported_subnets("Isolated"),
                "Tags": tags(scope.tags("database")),
            },
        ),
        "Settings": Resource(
            "AWS::RDS::DBParameterGroup",
            {
                "Description": f"Settings of {scope.site.site}",
                "Family": family,
                "Parameters": parameters,
                "Tags": tags(scope.tags("database")),
            },
        ),
    }


def _identifier(scope: Scope, name: str) -> str:
    return f"{scope.prefix}-{name}"


def _servers(scope: Scope) -> tuple[tuple[str, str], ...]:
    """Logical id and identifier of every instance."""
    replicas = (
        (f"Replica{i}", _identifier(scope, f"replica-{i}")) for i in range(1, scope.read_replicas + 1)
    )
    return (("Primary", _identifier(scope, "primary")), *replicas)


def _logs(scope: Scope) -> Mapping[str, Resource]:
    """RDS would make these groups itself, and keep them for ever."""
    return {
        f"{name}{log.capitalize()}Log": Resource(
            "AWS::Logs::LogGroup",
            {
                "LogGroupName": f"/aws/rds/instance/{identifier}/{log}",
                "RetentionInDays": scope.aws.log_days,
                "Tags": tags(scope.tags("database")),
            },
        )
        for name, identifier in _servers(scope)
        for log in LOGS
    }


def _instance(scope: Scope, name: str, identifier: str) -> dict[str, Value]:
    return {
        "DBInstanceIdentifier": identifier,
        "DBInstanceClass": scope.aws.database_class,
        "StorageType": "gp3",
        "VPCSecurityGroups": (scope.imported("network", "DatabaseGroup"),),
        "DBParameterGroupName": Ref("Settings"),
        "PubliclyAccessible": False,
        "AutoMinorVersionUpgrade": True,
        "CopyTagsToSnapshot": True,
        "EnableCloudwatchLogsExports": LOGS,
        "Tags": tags(scope.tags("database"), Name=identifier),
    }


def _log_names(name: str) -> tuple[str, ...]:
    return tuple(f"{name}{log.capitalize()}Log" for log in LOGS)


def _primary(scope: Scope) -> Resource:
    version, _ = ENGINES[scope.aws.database_engine]
    name, identifier = _servers(scope)[0]
    size = storage_gb(scope)
    return Resource(
        "AWS::RDS::DBInstance",
        {
            **_instance(scope, name, identifier),
            "Engine": scope.aws.database_engine,
            "EngineVersion": version,
            "DBName": scope.site.database.name,
            "MasterUsername": APP,
            # RDS's own managed password excludes read replicas (RDS user guide, "Limitations for Secrets
            # Manager").
            "MasterUserPassword": secret_reference(scope.imported("storage", "DatabaseSecret")),
            "Port": str(DATABASE_PORT),
            "MultiAZ": scope.multi_az,
            "DBSubnetGroupName": Ref("Subnets"),
            "AllocatedStorage": str(size),
            "MaxAllocatedStorage": size * 5,
            "StorageEncrypted": True,
            "BackupRetentionPeriod": scope.aws.backup_days,
            "DeleteAutomatedBackups": False,
            "DeletionProtection": scope.aws.protect_data,
        },
        depends_on=_log_names(name),
        keep="Snapshot",
        # The linter knows full versions only; RDS takes the beginning of one and keeps it patched by itself.
        metadata={"cfn-lint": {"config": {"ignore_checks": ["E3691"]}}},
    )


def _replicas(scope: Scope) -> Mapping[str, Resource]:
    return {
        name: Resource(
            "AWS::RDS::DBInstance",
            {
                **_instance(scope, name, identifier),
                "SourceDBInstanceIdentifier": Ref("Primary"),
                "MaxAllocatedStorage": storage_gb(scope) * 5,
            },
            depends_on=_log_names(name),
            # Nothing is lost with a replica; RDS cannot make a last snapshot of one either.
            keep="Delete",
        )
        for name, identifier in _servers(scope)[1:]
    }


def _alarms(scope: Scope) -> Mapping[str, Resource]:
    result: dict[str, Resource] = {}
    for name, _ in _servers(scope):
        of: Mapping[str, Value] = {"DBInstanceIdentifier": Ref(name)}
        result[f"{name}Busy"] = alarm(
            scope,
            "AWS/RDS",
            "CPUUtilization",
            of,
            above=90,
            minutes=15,
            text=f"database {name}: CPU above 90 %",
        )
        result[f"{name}Full"] = alarm(
            scope,
            "AWS/RDS",
            "FreeStorageSpace",
            of,
            below=2 * 2**30,
            minutes=5,
            text=f"database {name}: less than 2 GiB free",
        )
        if name != "Primary":
            result[f"{name}Lag"] = alarm(
                scope,
                "AWS/RDS",
                "ReplicaLag",
                of,
                above=max(scope.site.database.lag_limit, 1),
                minutes=5,
                text=f"database {name}: lags behind the primary",
            )
    return result


def arn_pattern(scope: Scope) -> Value:
    """ARNs of the site's instances."""
    return Sub("arn:${AWS::Partition}:rds:${AWS::Region}:${AWS::AccountId}:db:" + scope.prefix + "-*")
