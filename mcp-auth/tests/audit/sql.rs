//! The record in PostgreSQL.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use mcp_auth::audit::{AuditBreak, OnFailure, SqlAudit};
use mcp_core::{
    AuditSink as _,
    store::{Namespace, PostgresStore, StateStore as _, StoreKey},
    testing::PostgresServer,
};
use tokio_postgres::{Client, NoTls};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};

use crate::event;

async fn admin(server: &PostgresServer) -> Client {
    let (client, driver) = tokio_postgres::connect(&server.url(), NoTls).await.unwrap();
    tokio::spawn(driver);
    client
}

/// PgBouncer in front of a server: two server connections, each given to another client after every transaction.
struct Pool {
    port: u16,
    _folder: tempfile::TempDir,
    _child: tokio::process::Child,
}

impl Pool {
    async fn before(server: &PostgresServer) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let behind = server.url();
        let behind = behind.trim_end_matches("/postgres").rsplit(':').next();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pool.ini");
        let settings = format!(
            "[databases]\npostgres = host=127.0.0.1 port={} user=test\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nunix_socket_dir =\nauth_type = any\npool_mode = transaction\n\
             default_pool_size = 2\n",
            behind.unwrap()
        );
        std::fs::write(&file, settings).unwrap();
        let mut command = tokio::process::Command::new("/usr/sbin/pgbouncer");
        let root = std::fs::metadata("/proc/self").unwrap();
        if std::os::unix::fs::MetadataExt::uid(&root) == 0 {
            // It refuses to run as root; its settings hold no secret.
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            std::fs::set_permissions(folder.path(), mode).unwrap();
            command.args(["-u", "postgres"]);
        }
        let child = command
            .arg(&file)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .kill_on_drop(true)
            .spawn();
        let pool = Self {
            port,
            _folder: folder,
            _child: child.expect("this test needs the program pgbouncer; run .ci/test"),
        };
        for _ in 0..500 {
            if tokio::net::TcpStream::connect(("127.0.0.1", port))
                .await
                .is_ok()
            {
                return pool;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("pgbouncer does not listen on port {port}");
    }

    fn url(&self) -> String {
        format!("postgres://test@127.0.0.1:{}/postgres", self.port)
    }
}

#[tokio::test]
async fn a_pool_that_changes_connections_after_each_transaction_may_stand_between() {
    let server = PostgresServer::start().await;
    let pool = Pool::before(&server).await;
    let writers = [0, 1, 2, 3].map(|_| SqlAudit::new(&pool.url(), OnFailure::Refuse).unwrap());
    let events = (0..200).map(|n| {
        let writer = writers[n % 4].clone();
        async move { writer.record(&event(n)).await.unwrap() }
    });
    join_all(events).await;
    for writer in &writers {
        assert_eq!(writer.verify().await.unwrap().events, 200);
    }
    let stores = [0, 1, 2].map(|_| PostgresStore::new(&pool.url()).unwrap());
    for n in 0..60 {
        let key = StoreKey::new(&Namespace::new("t").unwrap(), [format!("{}", n % 7)]).unwrap();
        stores[n % 3].put(&key, "v".into(), None).await.unwrap();
        assert!(stores[(n + 1) % 3].get(&key).await.unwrap().is_some());
    }
}

fn audit(server: &PostgresServer, on_failure: OnFailure) -> SqlAudit {
    SqlAudit::new(&server.url(), on_failure).unwrap()
}

#[tokio::test]
async fn several_processes_write_one_chain_and_every_change_is_found() {
    let server = PostgresServer::start().await;
    // Each has a connection of its own, as processes have.
    let writers = [0, 1, 2].map(|_| audit(&server, OnFailure::Refuse));
    let events = (0..300).map(|n| {
        let writer = writers[n % 3].clone();
        async move { writer.record(&event(n)).await.unwrap() }
    });
    join_all(events).await;
    let whole = writers[0].verify().await.unwrap();
    assert_eq!(whole.events, 300);
    assert_eq!(writers[1].verify().await.unwrap(), whole);
    let admin = admin(&server).await;
    for change in [
        "update mcp_audit set event = '{}' where position = 7",
        "delete from mcp_audit where position = 7",
        "truncate mcp_audit",
    ] {
        let refused = admin.batch_execute(change).await.unwrap_err();
        assert!(
            refused
                .as_db_error()
                .unwrap()
                .message()
                .contains("append-only"),
            "{change}"
        );
    }
    an_administrator_is_found_out(&admin, &writers[2]).await;
}

/// An administrator can do all that, and it shows.
async fn an_administrator_is_found_out(admin: &Client, audit: &SqlAudit) {
    let whole = audit.verify().await.unwrap();
    let undo = "drop table if exists kept; create table kept as select * from mcp_audit";
    admin
        .batch_execute("alter table mcp_audit disable trigger all")
        .await
        .unwrap();
    admin.batch_execute(undo).await.unwrap();
    for (change, line) in [
        (
            "update mcp_audit set event = replace(event, 'u', 'v') where position = 7",
            7,
        ),
        ("delete from mcp_audit where position = 8", 8),
        ("delete from mcp_audit where position = 1", 1),
        (
            "update mcp_audit set hash = sha256('x') where position = 300",
            300,
        ),
        (
            "insert into mcp_audit select 301, event, hash from mcp_audit where position = 300",
            301,
        ),
    ] {
        admin.batch_execute(change).await.unwrap();
        let found = audit.verify().await;
        assert!(
            matches!(found, Err(AuditBreak::Broken { line: own }) if own == line),
            "{change}: {found:?}"
        );
        let again = "delete from mcp_audit; insert into mcp_audit select * from kept";
        admin.batch_execute(again).await.unwrap();
        assert_eq!(audit.verify().await.unwrap(), whole);
    }
    // Cut off the end: whole, but another head than the one that was kept elsewhere.
    admin
        .batch_execute("delete from mcp_audit where position > 299")
        .await
        .unwrap();
    assert_ne!(audit.verify().await.unwrap().head, whole.head);
}

#[tokio::test]
async fn a_server_that_is_away_refuses_or_is_counted_as_declared_and_the_chain_goes_on() {
    let mut server = PostgresServer::start().await;
    let strict = audit(&server, OnFailure::Refuse);
    let lenient = audit(&server, OnFailure::Continue);
    strict.record(&event(1)).await.unwrap();
    lenient.record(&event(2)).await.unwrap();
    server.kill().await;
    assert!(strict.record(&event(3)).await.is_err());
    assert!(lenient.record(&event(4)).await.is_ok());
    assert_eq!((strict.dropped(), lenient.dropped()), (1, 1));
    assert!(matches!(strict.verify().await, Err(AuditBreak::Io(_))));
    server.restart().await;
    for _ in 0..200 {
        if strict.record(&event(5)).await.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    lenient.record(&event(6)).await.unwrap();
    assert_eq!(strict.verify().await.unwrap().events, 4);
    let shown = format!("{strict:?}");
    assert!(!shown.contains("postgres://"), "{shown}");
}

#[test]
fn an_address_does_not_show() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let error = runtime.block_on(async {
        SqlAudit::new("postgres://u:hunter2@h:x/d", OnFailure::Refuse).unwrap_err()
    });
    assert!(!format!("{error:?} {error}").contains("hunter2"));
}

/// Accepts what an authority has signed, or nothing.
fn tls(authority: Option<&rcgen::Certificate>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    if let Some(authority) = authority {
        roots.add(authority.der().clone()).unwrap();
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
}

/// Has a server speak TLS, with a certificate of its own that is returned.
async fn encrypt(server: &PostgresServer) -> rcgen::Certificate {
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let own = rcgen::generate_simple_self_signed(names).unwrap();
    let admin = admin(server).await;
    let key = own.signing_key.serialize_pem();
    for (file, pem) in [("server.crt", own.cert.pem()), ("server.key", key)] {
        let copy = format!(
            "copy (select unnest(string_to_array('{}', chr(10)))) to program 'umask 077; cat > {file}'",
            pem.trim_end()
        );
        admin.batch_execute(&copy).await.unwrap();
    }
    admin
        .batch_execute("alter system set ssl = on")
        .await
        .unwrap();
    admin
        .batch_execute("select pg_reload_conf()")
        .await
        .unwrap();
    for _ in 0..100 {
        let on = admin.query_one("show ssl", &[]).await.unwrap();
        if on.get::<_, String>(0) == "on" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    own.cert
}

#[tokio::test]
async fn connections_are_encrypted_where_that_is_demanded_and_else_there_are_none() {
    let server = PostgresServer::start().await;
    let record = |tls: Arc<ClientConfig>| {
        let audit = SqlAudit::new_with_tls(&server.url(), tls, OnFailure::Refuse).unwrap();
        async move { audit.record(&event(1)).await.is_ok() }
    };
    assert!(
        !record(tls(None)).await,
        "this server has no TLS, and nothing is sent in the clear"
    );
    let certificate = encrypt(&server).await;
    assert!(
        !record(tls(None)).await,
        "nobody vouches for its certificate"
    );
    assert!(record(tls(Some(&certificate))).await);
    let admin = admin(&server).await;
    let encrypted = "select count(*) from pg_stat_ssl where ssl";
    let store = PostgresStore::new(&server.url()).unwrap();
    let store = store.with_tls(tls(Some(&certificate)));
    let key = StoreKey::new(&Namespace::new("t").unwrap(), ["k"]).unwrap();
    store.put(&key, "v".into(), None).await.unwrap();
    assert!(store.get(&key).await.unwrap().is_some());
    let own: i64 = admin.query_one(encrypted, &[]).await.unwrap().get(0);
    assert!(own >= 1, "the connection of the store is encrypted");
    let store = PostgresStore::new(&server.url())
        .unwrap()
        .with_tls(tls(None));
    assert!(store.get(&key).await.is_err());
    assert_eq!(
        audit(&server, OnFailure::Refuse)
            .verify()
            .await
            .unwrap()
            .events,
        1
    );
}
