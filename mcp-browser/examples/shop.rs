//! Visits a shop on this machine, fills in a form, and writes a picture of the answer to a file.
//!
//! ```sh
//! cargo run -p mcp-browser --example shop -- node_modules/playwright-core shop.png
//! ```

use std::{error::Error, io::Write as _, path::Path};

use axum::{Router, response::Html, routing::get};
use mcp_browser::{
    Action, BrowserConfig, BrowserService, Discover, OriginPolicy, Screenshot, SessionOptions,
    Viewport,
};
use mcp_core::Principal;

const SHOP: &str = "<!doctype html><title>Tea shop</title><style>body { font: 18px sans-serif; margin: 2em }</style>
    <h1>Tea shop</h1><form onsubmit=\"event.preventDefault(); out.textContent = `Thank you, ${who.value}: one ${tea.value}.`\">
    <p><label>Name <input id=who></label> <label>Tea <select id=tea><option>Assam</option><option>Darjeeling</option></select></label>
    <button>Order</button></p></form><p id=out></p>";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let package = arguments
        .next()
        .unwrap_or_else(|| ".cache/playwright/node_modules/playwright-core".to_owned());
    let file = arguments.next().unwrap_or_else(|| "shop.png".to_owned());

    // The shop, which is on a private address: the operator has to allow it.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let shop = format!("http://{}", listener.local_addr()?);
    let app = Router::new().route("/", get(|| async { Html(SHOP) }));
    tokio::spawn(async move { axum::serve(listener, app).await });

    let driver = Discover::new()
        .programs_in(&std::env::var_os("PATH").unwrap_or_default())
        .package_at(std::path::absolute(Path::new(&package))?)
        .find()?;
    let policy = OriginPolicy::only([shop.as_str()])?.allow_private([shop.as_str()])?;
    let browsers = BrowserService::new(BrowserConfig::new(driver).with_policy(policy))?;

    let mut options = SessionOptions::default();
    options.viewport = Some(Viewport::new(640, 320));
    let session = browsers.create(&Principal::local(), options).await?;
    session.navigate(&shop).await?;
    session.act("#who", Action::Fill("Ada".into())).await?;
    session
        .act("#tea", Action::Select(vec!["Darjeeling".into()]))
        .await?;
    session.act("text=Order", Action::click()).await?;
    let view = session.snapshot(false, 0, 4000).await?;
    writeln!(std::io::stdout(), "{}", view.text)?;
    tokio::fs::write(&file, session.screenshot(&Screenshot::default()).await?).await?;
    writeln!(std::io::stdout(), "the picture is in {file}")?;
    browsers.shutdown().await;
    Ok(())
}
