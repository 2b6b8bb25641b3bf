//! The accounts, and the receipts of what was moved between them.

use konsen::client::{Client, Error, Retry, Transaction};
use konsen::kv::{KeyRange, Revision};
use rand::RngExt;

/// What the receipt of a transfer says that happened, and of one that never will.
const HAPPENED: &str = "happened";
const CANCELLED: &str = "cancelled";
/// More receipts than there are clients, each of which has one at most.
const RECEIPTS_MAX: usize = 1000;

/// The accounts of one run, under keys of its own.
pub(crate) struct Accounts {
    prefix: String,
    count: usize,
    coins: u64,
}

/// Coins that go from one account to another.
#[derive(Debug)]
pub(crate) struct Transfer {
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) amount: u64,
    /// Unlike that of any other transfer.
    pub(crate) id: String,
    /// The transfer of the same client before it, of which everything is known: its receipt goes.
    pub(crate) known: Option<String>,
}

impl Accounts {
    pub(crate) fn new(count: usize, coins: u64) -> Accounts {
        let prefix = format!("bank-{:08x}/", rand::rng().random::<u32>());
        Accounts { prefix, count, coins }
    }

    /// What all keys of the run begin with.
    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// How many coins each account begins with.
    pub(crate) fn coins(&self) -> u64 {
        self.coins
    }

    /// How many coins there are.
    pub(crate) fn total(&self) -> u64 {
        self.coins * self.count as u64
    }

    fn account(&self, number: usize) -> String {
        format!("{}account/{number:03}", self.prefix)
    }

    fn receipt(&self, id: &str) -> String {
        format!("{}receipt/{id}", self.prefix)
    }

    fn range(&self, kind: &str) -> KeyRange {
        KeyRange::prefix(format!("{}{kind}/", self.prefix).as_bytes())
    }

    /// Gives each account its coins. It may be repeated: an attempt whose outcome nobody told is refused once another one
    /// succeeded, since it has seen that there were no accounts.
    pub(crate) async fn open(&self, client: &Client) -> anyhow::Result<()> {
        let retry = Retry::default();
        let open = |txn: Transaction| async move {
            if txn.list(&self.range("account"), 1).await?.is_empty() {
                for number in 0..self.count {
                    txn.put(self.account(number), self.coins.to_string())?;
                }
            }
            Ok::<_, Error>(())
        };
        super::patiently(|| client.transaction(&retry, open)).await.map(drop)
    }

    /// What each account has, and at which revision: one listing, so all at the same.
    pub(crate) async fn balances(&self, client: &Client) -> Result<(Vec<u64>, Revision), Error> {
        let txn = client.begin();
        let listed = txn.list(&self.range("account"), self.count + 1).await?;
        let balances = listed.iter().map(|(_, value)| coins_of(value));
        Ok((balances.collect::<Result<_, _>>()?, txn.commit().await?.unwrap_or_default()))
    }

    /// Moves coins if there are enough of them; whether there were. The receipt is written in the same transaction, so it
    /// tells whether that happened. It is read as well, so that nothing happens any more once it was cancelled.
    pub(crate) async fn transfer(
        &self,
        txn: &Transaction,
        transfer: &Transfer,
    ) -> Result<bool, Error> {
        let receipt = self.receipt(&transfer.id);
        if txn.get(receipt.as_bytes()).await?.is_some() {
            return Err(Error::Refused("the transfer was made before".to_owned()));
        }
        let (from, to) = (self.account(transfer.from), self.account(transfer.to));
        let from_has = self.balance(txn, &from).await?;
        let to_has = self.balance(txn, &to).await?;
        if from_has < transfer.amount {
            return Ok(false);
        }
        txn.put(from, (from_has - transfer.amount).to_string())?;
        txn.put(to, (to_has + transfer.amount).to_string())?;
        txn.put(receipt, HAPPENED)?;
        self.forget(txn, transfer)?;
        Ok(true)
    }

    async fn balance(&self, txn: &Transaction, account: &str) -> Result<u64, Error> {
        let value = txn.get(account.as_bytes()).await?;
        coins_of(&value.ok_or_else(|| Error::Failed(format!("{account} is gone")))?)
    }

    fn forget(&self, txn: &Transaction, transfer: &Transfer) -> Result<(), Error> {
        transfer.known.as_ref().map_or(Ok(()), |known| txn.delete(self.receipt(known)))
    }

    /// Finds out whether a transfer of unknown outcome has happened. That its receipt is missing does not say that it will not
    /// happen yet: its request may still be under way. So it is cancelled: a receipt that says so is written where the
    /// transfer has seen none, and it is refused if it comes after that. May be repeated.
    pub(crate) async fn resolve(
        &self,
        client: &Client,
        transfer: &Transfer,
    ) -> anyhow::Result<bool> {
        let receipt = self.receipt(&transfer.id);
        let retry = Retry::default();
        let receipt = &receipt;
        let look = |txn: Transaction| async move {
            let found = txn.get(receipt.as_bytes()).await?;
            if found.is_none() {
                txn.put(receipt.clone(), CANCELLED)?;
                self.forget(&txn, transfer)?;
            }
            Ok::<_, Error>(found.is_some_and(|text| text == HAPPENED))
        };
        let found = super::patiently(|| client.transaction(&retry, look)).await?;
        Ok(found.value)
    }

    /// Removes a receipt that nobody needs any more.
    pub(crate) async fn remove_receipt(&self, client: &Client, id: &str) -> Result<(), Error> {
        let txn = client.begin();
        txn.delete(self.receipt(id))?;
        txn.commit().await.map(drop)
    }

    /// How many receipts there are.
    pub(crate) async fn receipts(&self, client: &Client) -> Result<usize, Error> {
        Ok(client.begin().list(&self.range("receipt"), RECEIPTS_MAX).await?.len())
    }

    /// Removes everything.
    pub(crate) async fn clear(&self, client: &Client) -> Result<(), Error> {
        client.delete_prefix(self.prefix.as_bytes()).await.map(drop)
    }
}

fn coins_of(value: &[u8]) -> Result<u64, Error> {
    let coins = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
    coins.ok_or_else(|| Error::Failed(format!("{:?} are no coins", value.escape_ascii())))
}
