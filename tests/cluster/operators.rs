//! What operators may do to a cluster in use without losing it: whatever they ask for, in whatever order, is done,
//! or refused with the reason, and a majority that is up serves.

mod answers;
mod away;
mod commands;
mod late;
mod moved;
mod replaced;
mod twins;
mod undo;

use crate::harness::Cluster;
use crate::hosts::{self, from_folder, newcomer};
use crate::members::named;
use crate::operator::{At, By, Operator, Order, Outcome};

/// Gives an order, with `asked` as the first node that is asked; it must be done.
pub(crate) async fn done(cluster: &Cluster, by: By, asked: usize, order: &Order) {
    let told = Operator::of(cluster, by, asked).give(order).await;
    assert_eq!(told.outcome, Outcome::Done, "{order:?}: {}\n{}", told.text, cluster.logs());
}

/// Gives an order that must be refused; what was said.
async fn refused(cluster: &Cluster, by: By, asked: usize, order: &Order) -> String {
    Operator::of(cluster, by, asked).give(order).await.refused()
}

/// The host that comes in the place of one that was put out and has ended, with the folder that the command line
/// made, or with one that an operator makes where he speaks HTTP.
fn successor(cluster: &mut Cluster, by: By, of: usize, knows: &[usize]) -> usize {
    let (name, at) = (cluster.nodes[of].name.clone(), At::of(&cluster.nodes[of]));
    come(cluster, by, &name, &at, knows)
}

/// The host of a name that the cluster expects; it does not run yet.
fn come(cluster: &mut Cluster, by: By, name: &str, at: &At, knows: &[usize]) -> usize {
    match by {
        By::CommandLine => from_folder(cluster, name, at),
        By::Http => {
            let knows = hosts::listed(cluster, knows);
            newcomer(cluster, name, at, &knows, "")
        }
    }
}

/// Takes in a host, which comes and votes.
async fn add(cluster: &mut Cluster, by: By, asked: usize, name: &str, knows: &[usize]) -> usize {
    let at = At::free();
    let order = Order::Add { name: name.to_owned(), at: at.clone(), learner: false };
    done(cluster, by, asked, &order).await;
    let new = come(cluster, by, name, &at, knows);
    cluster.nodes[new].start();
    hosts::until_it_votes(cluster, asked, new).await;
    cluster.wait_ready(new).await;
    new
}

async fn lead(cluster: &Cluster, by: By, asked: usize, node: usize) {
    done(cluster, by, asked, &Order::transfer(&cluster.nodes[node].name)).await;
}

/// The members' names and identities, as a node knows them, by name.
async fn identities(cluster: &Cluster, asked: usize) -> Vec<(String, String)> {
    let members = hosts::members(cluster, asked).await;
    let members = members.as_array().cloned().unwrap_or_default();
    let one = |member: serde_json::Value| {
        let text = |field: &str| member[field].as_str().unwrap_or_default().to_owned();
        (text("name"), text("id"))
    };
    members.into_iter().map(one).collect()
}

/// Waits until a node knows that a member is awaited, whose host has not come yet.
async fn until_awaited(cluster: &Cluster, asked: usize, name: &str) {
    let what = format!("{name} is awaited");
    crate::members::wait_members(cluster, asked, &what, |members| {
        let own = named(members, name);
        own.is_object() && own["id"].is_null()
    })
    .await;
}
