import { leaveCalls } from './recorded-calls.ts'

leaveCalls()
