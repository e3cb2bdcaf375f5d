"""Tables that are detached, where only a real broker refuses: a topic that is made anew, one that takes less than it said,
one that we may no longer write to."""
import json

import decode
import servers
from confluent_kafka.admin import (AclBinding, AclBindingFilter, AclOperation, AclPermissionType, AdminClient, AlterConfigOpType,
                                   ConfigEntry, ConfigResource, NewTopic, ResourcePatternType, ResourceType)
from scenarios_windows import with_token


def state(world, agent, table, wanted, seconds=90.0):
    """The table's status once its state is this."""

    def so():
        return agent.status().get("tables", {}).get(table, {}).get("state") == wanted

    world.until("%s is %s" % (table, wanted), so, seconds)
    return agent.status()["tables"][table]


def set_aside(world):
    """The quarantine topic's texts, in their order."""
    topic = world.prefix + ".wellspring-quarantine"
    records = decode.read_all(world.kafka.brokers, world.prefix + ".", 60.0)
    return [json.loads(m.value()) for m in records if m.topic() == topic]


def pipeline(world):
    """Two tables that stream, one row each in Kafka, under consent."""
    pg = world.postgres(settings={"wal_sender_timeout": "6s"})
    pg.psql("create table hurt (id int primary key, v text); create table fine (id int primary key, v text)",
            database="shop")
    agent = with_token(world.agent(pg, ["public.hurt", "public.fine"], events={"on_refusal": "detach"},
                                   limits={"quarantine": "1s"}))
    agent.start()
    pg.psql("insert into hurt values (1, 'a'), (2, 'b'); insert into fine values (1, 'a')", database="shop")
    world.until_delivered(pg, agent)
    return pg, agent


def repaired(world, pg, agent):
    """One command, and the tables equal their topics."""
    code, said = agent.command("snapshot", "public.hurt")
    assert code == 0 and "quarantine" in said, said
    state(world, agent, "public.hurt", "streaming")
    pg.psql("insert into hurt values (90, 'after'); insert into fine values (90, 'after')", database="shop")
    world.until_delivered(pg, agent)
    world.until_confirmed(pg)
    assert agent.phase() == "streaming"
    # Order is not judged: the copy brings rows that the topic lacked behind changes that came after them.
    world.judge(pg, {"public.hurt": (0,), "public.fine": (0,)}, order=False)


def detach_topic_made_anew(world):
    """A topic is deleted and made anew under the agent: its table is detached, the other goes on, one command repairs it."""
    pg, agent = pipeline(world)
    admin = AdminClient({"bootstrap.servers": world.kafka.brokers})
    topic = world.prefix + ".public.hurt"
    for _, done in admin.delete_topics([topic], operation_timeout=30).items():
        done.result()

    def made():
        try:
            admin.create_topics([NewTopic(topic, 1, 1)])[topic].result()
            return True
        except Exception:  # its old one is still being deleted
            return False

    world.until("the topic is there again", made)
    for n in range(10, 13):
        pg.psql("insert into hurt values (%d, 'new')" % n, database="shop")
        pg.psql("insert into fine values (%d, 'new')" % n, database="shop")
    found = state(world, agent, "public.hurt", "detached")
    assert found["reason"] == "offsets_went_back", found
    assert found["gap"]["commit_lsn"] and "wellspring snapshot public.hurt" in found["next"], found
    world.until_delivered(pg, agent)
    world.until_confirmed(pg)
    assert {10, 11, 12} <= {int(t["after"]["id"]) for t in set_aside(world)}
    world.say("detached as %s", found["reason"])
    repaired(world, pg, agent)


def detach_record_refused_by_the_broker(world):
    """A topic takes less than it said when its table was planned: the broker refuses a record, its table is detached."""
    pg, agent = pipeline(world)
    admin = AdminClient({"bootstrap.servers": world.kafka.brokers})
    entry = ConfigEntry("max.message.bytes", "2000", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, world.prefix + ".public.hurt", incremental_configs=[entry])
    for _, done in admin.incremental_alter_configs([resource]).items():
        done.result()
    pg.psql("insert into hurt select 10, string_agg(md5(i::text), '') from generate_series(1, 200) i", database="shop")
    pg.psql("insert into fine values (10, 'new')", database="shop")
    found = state(world, agent, "public.hurt", "detached")
    assert found["reason"] in ("record_too_large", "undeliverable"), found
    world.until_delivered(pg, agent)
    world.until_confirmed(pg)
    assert [t["after"]["id"] for t in set_aside(world)] == ["10"]
    world.say("detached as %s", found["reason"])
    pg.psql("update hurt set v = 'short' where id = 10", database="shop")
    repaired(world, pg, agent)


def write_rules(topic):
    """Everything else on the topic stays allowed; writing is denied, which counts more."""
    def rule(operation, permission):
        return AclBinding(ResourceType.TOPIC, topic, ResourcePatternType.LITERAL, "User:ANONYMOUS", "*", operation, permission)

    return [rule(AclOperation.ALL, AclPermissionType.ALLOW), rule(AclOperation.WRITE, AclPermissionType.DENY)]


def detach_write_denied_by_an_acl(world):
    """The right to write to one topic is taken away under the agent: its table is detached, and repaired when it is back."""
    world.kafka = world.ends(servers.Kafka(world.name + "-kafka", settings={
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "allow.everyone.if.no.acl.found": "true"}))
    world.kafka.wipe()
    world.kafka.start()
    pg, agent = pipeline(world)
    admin = AdminClient({"bootstrap.servers": world.kafka.brokers})
    rules = write_rules(world.prefix + ".public.hurt")
    for done in admin.create_acls(rules).values():
        done.result(30)
    pg.psql("insert into hurt values (10, 'denied')", database="shop")
    pg.psql("insert into fine values (10, 'new')", database="shop")
    found = state(world, agent, "public.hurt", "detached")
    assert found["reason"] == "undeliverable" and "wellspring snapshot public.hurt" in found["next"], found
    world.until_delivered(pg, agent)
    world.until_confirmed(pg)
    assert agent.phase() == "streaming"
    kept = {t["after"]["id"] for t in set_aside(world)}
    assert "10" in kept, kept
    world.say("detached as %s", found["reason"])
    denied = AclBindingFilter(ResourceType.TOPIC, world.prefix + ".public.hurt", ResourcePatternType.LITERAL, None, None,
                              AclOperation.ANY, AclPermissionType.ANY)
    for done in admin.delete_acls([denied]).values():
        assert len(done.result(30)) == 2
    repaired(world, pg, agent)


def no_right_on_groups(world):
    """A login that may use no consumer group: the agent reads its state at a restart, and `tail` reads a topic."""
    world.kafka = world.ends(servers.Kafka(world.name + "-kafka", settings={
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "allow.everyone.if.no.acl.found": "true"}))
    world.kafka.wipe()
    world.kafka.start()
    admin = AdminClient({"bootstrap.servers": world.kafka.brokers})
    denied = AclBinding(ResourceType.GROUP, "*", ResourcePatternType.LITERAL, "User:ANONYMOUS", "*",
                        AclOperation.ALL, AclPermissionType.DENY)
    for done in admin.create_acls([denied]).values():
        done.result(30)
    pg, agent = pipeline(world)
    assert agent.stop() == 0
    agent.start()
    pg.psql("insert into hurt values (3, 'after')", database="shop")
    world.until_delivered(pg, agent)
    status, text = agent.command("tail", world.prefix + ".public.hurt", "--from", "beginning", "--max", "3")
    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    assert status == 0 and [line["value"]["after"]["id"] for line in lines] == [1, 2, 3], (status, text)
    world.say("%d records read", len(lines))


SCENARIOS = [no_right_on_groups, detach_topic_made_anew, detach_record_refused_by_the_broker, detach_write_denied_by_an_acl]
