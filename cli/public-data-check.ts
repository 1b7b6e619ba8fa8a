/** @file Holds the data that a spec calls public against private accounts: those of the ledger and those of the spec itself. */

import { type DatasetRecords, type DatasetSource, readDigested } from '../datasets/index.ts';
import { calledPublic, type Ledger, type PublicData, type RowsOfAccount } from '../privacy/ledger/index.ts';
import { publicDataOf } from './registrations.ts';

/**
 * Takes the datasets of a spec in their order. Where nothing private is known, public data cost nothing; they are read
 * again when a private dataset comes after them.
 */
export class PublicDataCheck {
  readonly #ledger: () => Promise<Ledger>;
  readonly #pending: RowsOfAccount[] = [];
  readonly #compared: PublicData[] = [];
  #passedOver: DatasetSource[] = [];

  constructor(ledger: () => Promise<Ledger>) {
    this.#ledger = ledger;
  }

  /** @throws EpsilonflowError DATASET_OVERLAP, LEDGER_MISMATCH */
  async add(source: DatasetSource, digest: string, records: DatasetRecords): Promise<void> {
    const isAlone = this.#pending.length === 0 && (await (await this.#ledger()).privateAccounts()).length === 0;
    if (isAlone) {
      this.#passedOver.push(source);
      return;
    }
    const data = await publicDataOf(source, digest, records);
    this.#compared.push(data);
    await this.#compare(data, this.#pending);
  }

  /**
   * Private data that the ledger does not know yet.
   *
   * @throws EpsilonflowError DATASET_OVERLAP, LEDGER_MISMATCH
   */
  async holdAgainst(registrations: readonly RowsOfAccount[]): Promise<void> {
    if (registrations.length === 0) return;
    this.#pending.push(...registrations);
    for (const data of this.#compared) await this.#compare(data, registrations);
    const sources = this.#passedOver;
    this.#passedOver = [];
    for (const source of sources) {
      const { digest, records } = await readDigested(source, null);
      await this.add(source, digest, records);
    }
  }

  async #compare(data: PublicData, pending: readonly RowsOfAccount[]): Promise<void> {
    const sharers = await (await this.#ledger()).privateSharers(data, pending);
    if (sharers.length > 0) throw calledPublic(data.dataset, sharers);
  }
}
